// Lockkeeper runs commands under a lock, and shows and mends what is going on with
// locks: see lockkeeper --help. It brings every store.
package main

import (
	"os"

	_ "github.com/tonsurance/lockkeeper/backends/etcd"
	_ "github.com/tonsurance/lockkeeper/backends/mysql"
	_ "github.com/tonsurance/lockkeeper/backends/nats"
	_ "github.com/tonsurance/lockkeeper/backends/postgres"
	_ "github.com/tonsurance/lockkeeper/backends/s3"
	_ "github.com/tonsurance/lockkeeper/backends/sqlite"
	"github.com/tonsurance/lockkeeper/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }
