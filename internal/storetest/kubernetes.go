package storetest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tonsurance/lockkeeper/internal/programtest"
)

// KubeEnv names the kube-apiserver that [StartKubernetes] starts, over an etcd. Without it,
// it starts kubefake.
const KubeEnv = "LOCKKEEPER_KUBE_APISERVER"

// Tokens of the users of [StartKubernetes]: one that may do anything, one that has only what
// it is given, and one that nobody knows.
const (
	KubeAdmin    = "admin-" + Password
	KubeClerk    = "clerk-" + Password
	KubeStranger = "stranger-" + Password
)

// Kubernetes is an API server: one process on loopback, with TLS.
type Kubernetes struct {
	*Server
	authority *Authority
	client    *http.Client
	real      bool
	version   string
}

// KubernetesVersion is "Kubernetes v1.37.2", or "kubefake".
func KubernetesVersion(t testing.TB) string {
	t.Helper()
	if program := os.Getenv(KubeEnv); program != "" {
		return versionOf(program)
	}
	return "kubefake"
}

// StartKubernetes starts an API server with the namespace "locks": the real one over an etcd
// if [KubeEnv] says so, else kubefake, which keeps its Leases in a file.
func StartKubernetes(t testing.TB) *Kubernetes {
	t.Helper()
	k := &Kubernetes{authority: NewAuthority(t)}
	if program := os.Getenv(KubeEnv); program != "" {
		k.real, k.version = true, versionOf(program)
		k.startReal(t, program, StartEtcd(t, 1))
	} else {
		k.version = "kubefake"
		k.startFake(t)
	}
	k.init(t)
	return k
}

func (k *Kubernetes) startReal(t testing.TB, program string, etcd *Etcd) {
	t.Helper()
	k.Server = newServer(t, "apiserver")
	k.authority.Issue(t, Certificate{Name: "apiserver"})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	private, err := x509.MarshalECPrivateKey(key)
	must(t, err)
	account := filepath.Join(k.dir, "account.key")
	must(t, os.WriteFile(account, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}), 0o600))
	users := filepath.Join(k.dir, "users.csv")
	must(t, os.WriteFile(users, []byte(KubeAdmin+",admin,1,system:masters\n"+KubeClerk+",clerk,2\n"), 0o600))
	k.command = func() *exec.Cmd {
		return exec.Command(program, "--etcd-servers", strings.Join(etcd.Endpoints(), ","),
			"--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--endpoint-reconciler-type", "none",
			"--secure-port", fmt.Sprint(k.port), "--cert-dir", k.dir,
			"--tls-cert-file", k.authority.File("apiserver.crt"), "--tls-private-key-file", k.authority.File("apiserver.key"),
			"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", account,
			"--service-account-signing-key-file", account, "--service-cluster-ip-range", "10.0.0.0/24",
			"--authorization-mode", "RBAC", "--token-auth-file", users)
	}
}

// startFake builds kubefake, once for a test binary with programtest.Main, and starts it.
func (k *Kubernetes) startFake(t testing.TB) {
	t.Helper()
	k.Server = newServer(t, "kubefake")
	k.authority.Issue(t, Certificate{Name: "apiserver"})
	program := programtest.BuildIn(t, k.dir, "github.com/tonsurance/lockkeeper/internal/kubetest/kubefake")
	k.command = func() *exec.Cmd {
		return exec.Command(program, "-listen", k.Addr(), "-file", filepath.Join(k.dir, "leases"),
			"-cert", k.authority.File("apiserver.crt"), "-key", k.authority.File("apiserver.key"),
			"-admin", KubeAdmin, "-clerk", KubeClerk)
	}
}

// init starts it and makes the namespace.
func (k *Kubernetes) init(t testing.TB) {
	t.Helper()
	k.client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: k.authority.Pool, MinVersion: tls.VersionTLS12},
	}}
	for _, token := range []string{KubeAdmin, KubeClerk, KubeStranger} {
		must(t, os.WriteFile(filepath.Join(k.dir, token), []byte(token+"\n"), 0o600))
	}
	k.ready = func(ctx context.Context) error {
		_, err := k.ask(ctx, KubeAdmin, http.MethodGet, "/readyz", "")
		return err
	}
	k.Restart()
	for deadline := time.Now().Add(upTimeout); ; time.Sleep(20 * time.Millisecond) {
		_, err := k.Ask(KubeAdmin, http.MethodPost, "/api/v1/namespaces", `{"metadata":{"name":"locks"}}`)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("storetest: making a namespace: %v", err)
		}
	}
}

// Version is "Kubernetes v1.37.2", or "kubefake".
func (k *Kubernetes) Version() string { return k.version }

// Real reports whether it is Kubernetes' own.
func (k *Kubernetes) Real() bool { return k.real }

// URL is that of a store, over a proxy maybe: of host:port.
func (k *Kubernetes) URL(addr, namespace, token string) string {
	file := filepath.Join(k.dir, token)
	return "kubernetes://" + addr + "/" + namespace + "?" + url.Values{"token-file": {file}, "tls-ca": {k.CA()}}.Encode()
}

// Host is the server's own URL.
func (k *Kubernetes) Host() string { return "https://" + k.Addr() }

// Authority has signed the server's certificate.
func (k *Kubernetes) Authority() *Authority { return k.authority }

// CA is the file of the authority that has signed the server's certificate.
func (k *Kubernetes) CA() string { return k.authority.File("ca.crt") }

// Ask sends a request to the server in a user's name. Any answer but 2xx is an error.
func (k *Kubernetes) Ask(token, method, path, body string) ([]byte, error) {
	return k.ask(context.Background(), token, method, path, body)
}

func (k *Kubernetes) ask(ctx context.Context, token, method, path, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, k.Host()+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(text))
	}
	return text, err
}

// Allow gives the clerk these verbs on the Leases of a namespace, and nothing else.
func (k *Kubernetes) Allow(namespace string, verbs ...string) {
	k.t.Helper()
	quoted := `"` + strings.Join(verbs, `","`) + `"`
	at := "/apis/rbac.authorization.k8s.io/v1/namespaces/" + namespace
	_, err := k.Ask(KubeAdmin, http.MethodPost, at+"/roles",
		`{"metadata":{"name":"locks"},"rules":[{"apiGroups":["coordination.k8s.io"],"resources":["leases"],"verbs":[`+quoted+`]}]}`)
	must(k.t, err)
	_, err = k.Ask(KubeAdmin, http.MethodPost, at+"/rolebindings",
		`{"metadata":{"name":"locks"},"subjects":[{"kind":"User","name":"clerk"}],"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"locks"}}`)
	must(k.t, err)
}

// Terminate begins to delete a namespace: nothing new can be made in it. It is Finish that
// ends it, since no controller runs here.
func (k *Kubernetes) Terminate(namespace string) {
	k.t.Helper()
	_, err := k.Ask(KubeAdmin, http.MethodDelete, "/api/v1/namespaces/"+namespace, "")
	must(k.t, err)
}

// Finish does what the controller of namespaces does with one that is being deleted.
func (k *Kubernetes) Finish(namespace string) {
	k.t.Helper()
	k.DeleteLeases(namespace)
	_, err := k.Ask(KubeAdmin, http.MethodPut, "/api/v1/namespaces/"+namespace+"/finalize",
		`{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"`+namespace+`"},"spec":{"finalizers":[]}}`)
	must(k.t, err)
}

// DeleteLeases deletes all that are in a namespace.
func (k *Kubernetes) DeleteLeases(namespace string) {
	k.t.Helper()
	_, err := k.Ask(KubeAdmin, http.MethodDelete, "/apis/coordination.k8s.io/v1/namespaces/"+namespace+"/leases", "")
	must(k.t, err)
}
