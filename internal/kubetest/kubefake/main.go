// Command kubefake serves [kubetest.Server] over TLS, as a process that can be killed and
// stopped. It keeps its Leases in a file.
package main

import (
	"flag"
	"log"
	"net/http"

	"github.com/tonsurance/lockkeeper/internal/kubetest"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address")
	file := flag.String("file", "", "where the Leases are kept")
	cert := flag.String("cert", "", "PEM file")
	key := flag.String("key", "", "PEM file")
	admin := flag.String("admin", "", "token of who may do anything")
	clerk := flag.String("clerk", "", "token of who may do what a role allows")
	flag.Parse()
	s := &kubetest.Server{}
	if err := s.Durable(*file); err != nil {
		log.Fatal(err)
	}
	s.Users(map[string]kubetest.User{*admin: {Name: "admin", Admin: true}, *clerk: {Name: "clerk"}})
	log.Fatal(http.ListenAndServeTLS(*listen, *cert, *key, s))
}
