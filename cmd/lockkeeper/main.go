// Lockkeeper runs commands under a lock, and shows and mends what is going on with
// locks: see lockkeeper --help.
package main

import (
	"os"

	"github.com/tonsurance/lockkeeper/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }
