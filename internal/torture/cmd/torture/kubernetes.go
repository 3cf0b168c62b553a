package main

import (
	"net/http"
	"os"

	"github.com/tonsurance/lockkeeper/internal/storetest"
	"github.com/tonsurance/lockkeeper/internal/torture/history"
)

const kubeNamespace = "locks"

func startKubernetes(t *torture) ([]*node, place, error) {
	k := storetest.StartKubernetes(t.h)
	return []*node{{server: k, restart: k.Restart, program: k.Version()}}, place{urls: func(p *process) []string {
		return []string{k.URL(p.proxies[0].Addr(), kubeNamespace, storetest.KubeAdmin)}
	}}, nil
}

func kubernetesKinds() []kind {
	kinds := append(aServer(), kind{name: "server: the Leases are deleted", weight: 8, target: aNode, unsafe: true,
		do: kube(http.MethodDelete, "/apis/coordination.k8s.io/v1/namespaces/"+kubeNamespace+"/leases")})
	if os.Getenv(storetest.KubeEnv) != "" {
		return kinds // the real one does the rest by itself alone
	}
	return append(kinds, []kind{
		{name: "server: its history is forgotten (410)", weight: 5, target: aNode, do: kube(http.MethodPost, "/kubefake/compact")},
		{name: "server: 20 requests are throttled (429, Retry-After)", weight: 5, target: aNode, do: kube(http.MethodPost, "/kubefake/throttle?n=20&after=1")},
		{name: "server: all are throttled for a while (429, Retry-After)", weight: 3, target: aNode, shortest: 50 * ms, longest: 2000 * ms, impair: history.OneNode,
			do: func(t *torture, f planned, pause func()) (string, error) {
				note, _ := kube(http.MethodPost, "/kubefake/throttle?n=1000000&after=1")(t, f, nil)
				pause()
				if also, _ := kube(http.MethodPost, "/kubefake/throttle?n=0")(t, f, nil); also != "" {
					note = also // a server that was killed meanwhile throttles nobody, either
				}
				return note, nil
			}},
	}...)
}

// kube asks the server for something. One that is away just now does not do it, which the
// note says.
func kube(method, path string) func(*torture, planned, func()) (string, error) {
	return func(t *torture, f planned, _ func()) (string, error) {
		if _, err := t.nodes[f.node].server.(*storetest.Kubernetes).Ask(storetest.KubeAdmin, method, path, ""); err != nil {
			return "not done: " + err.Error(), nil
		}
		return "", nil
	}
}
