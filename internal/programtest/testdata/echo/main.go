// Command echo prints its argument, for the test that builds it.
package main

import (
	"fmt"
	"os"
)

func main() { fmt.Println(os.Args[1]) }
