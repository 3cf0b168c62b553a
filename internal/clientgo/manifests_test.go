package clientgo

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/tonsurance/lockkeeper/internal/storetest"
)

const deploy = "../../examples/deploy/kubernetes"

// manifests decodes the documents of a file as strictly as the API server does with
// fieldValidation=Strict: an unknown or doubled field is an error.
func manifests(t *testing.T, text []byte) (objects []runtime.Object, err error) {
	t.Helper()
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	return objects, nil
}

func readManifests(t *testing.T, name string) []runtime.Object {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, name))
	require.NoError(t, err)
	objects, err := manifests(t, text)
	require.NoError(t, err, name)
	return objects
}

func TestTheManifestsHaveFieldsThatThereAreAndNoOthers(t *testing.T) {
	files, err := filepath.Glob(deploy + "/*.yaml")
	require.NoError(t, err)
	require.Len(t, files, 2)
	for _, file := range files {
		require.NotEmpty(t, readManifests(t, filepath.Base(file)))
	}
	_, err = manifests(t, []byte("apiVersion: apps/v1\nkind: Deployment\nspec: {replica: 2}\n"))
	require.ErrorContains(t, err, "replica")
}

// of returns the objects of type T.
func of[T runtime.Object](objects []runtime.Object) (found []T) {
	for _, object := range objects {
		if o, ok := object.(T); ok {
			found = append(found, o)
		}
	}
	return found
}

// The rights are those that the store's page names, whose sufficiency a test there shows, and
// they are those of the account that the pods have.
func TestTheManifestsGiveTheRightsThatTheStoreNeedsAndNoMore(t *testing.T) {
	objects := readManifests(t, "keeper.yaml")
	page, err := os.ReadFile("../../backends/kubernetes/README.md")
	require.NoError(t, err)
	verbs := regexp.MustCompile(`(?m)^  verbs: \[(.*)\]$`).FindSubmatch(page)
	require.NotNil(t, verbs)

	role, binding := of[*rbacv1.Role](objects)[0], of[*rbacv1.RoleBinding](objects)[0]
	require.Equal(t, []rbacv1.PolicyRule{{
		APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: strings.Split(string(verbs[1]), ", "),
	}}, role.Rules)
	require.Equal(t, rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: role.Name}, binding.RoleRef)
	account := of[*corev1.ServiceAccount](objects)[0]
	require.Equal(t, []rbacv1.Subject{{Kind: "ServiceAccount", Name: account.Name, Namespace: account.Namespace}}, binding.Subjects)
	for _, d := range append(of[*appsv1.Deployment](objects), of[*appsv1.Deployment](readManifests(t, "sidecar.yaml"))...) {
		require.Equal(t, account.Name, d.Spec.Template.Spec.ServiceAccountName)
		require.Equal(t, account.Namespace, d.Namespace)
		require.Equal(t, d.Spec.Selector.MatchLabels, d.Spec.Template.Labels)
	}
}

// A pod that stands by must become ready, or no rolling update ends; and none may be
// restarted for not leading.
func TestTheManifestsProbeReadinessWithoutLeadershipAndTheSidecarOutlivesTheProgram(t *testing.T) {
	keeper := of[*appsv1.Deployment](readManifests(t, "keeper.yaml"))[0].Spec.Template.Spec
	require.Equal(t, "/readyz?standby=ok", keeper.Containers[0].ReadinessProbe.HTTPGet.Path)
	require.Nil(t, keeper.Containers[0].LivenessProbe)

	pod := of[*appsv1.Deployment](readManifests(t, "sidecar.yaml"))[0].Spec.Template.Spec
	require.Len(t, pod.InitContainers, 1)
	sidecar := pod.InitContainers[0]
	require.Equal(t, corev1.ContainerRestartPolicyAlways, *sidecar.RestartPolicy)
	listen := sidecar.Args[slices.Index(sidecar.Args, "--listen")+1]
	require.True(t, strings.HasPrefix(listen, "127.0.0.1:"), listen)
	require.Contains(t, pod.Containers[0].Env, corev1.EnvVar{Name: "LEADERSHIP", Value: "http://" + listen})
	for _, c := range append(pod.Containers, sidecar) {
		require.Empty(t, c.Resources.Limits.Cpu().Value(), "%s: a throttled program renews late", c.Name)
	}
	require.Greater(t, *pod.TerminationGracePeriodSeconds, int64(30))
}

// Kubernetes' own API server accepts them, its validation included.
func TestTheAPIServerAcceptsTheManifests(t *testing.T) {
	server := storetest.StartKubernetes(t)
	if !server.Real() {
		t.Skip("make kubernetes tries this on Kubernetes' own API server")
	}
	client, err := kubernetes.NewForConfig(config(server))
	require.NoError(t, err)
	_, err = client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "oracle"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict}
	for _, file := range []string{"keeper.yaml", "sidecar.yaml"} {
		for _, object := range readManifests(t, file) {
			switch o := object.(type) {
			case *appsv1.Deployment: // its pod's template is validated with it
				_, err = client.AppsV1().Deployments("oracle").Create(t.Context(), o, dry)
			case *rbacv1.Role:
				_, err = client.RbacV1().Roles("oracle").Create(t.Context(), o, dry)
			case *rbacv1.RoleBinding:
				_, err = client.RbacV1().RoleBindings("oracle").Create(t.Context(), o, dry)
			case *corev1.ServiceAccount:
				_, err = client.CoreV1().ServiceAccounts("oracle").Create(t.Context(), o, dry)
			case *policyv1.PodDisruptionBudget:
				_, err = client.PolicyV1().PodDisruptionBudgets("oracle").Create(t.Context(), o, dry)
			default:
				t.Fatalf("%s has a %T: try it here, too", file, o)
			}
			require.NoError(t, err, "%s: %T", file, object)
		}
	}
}
