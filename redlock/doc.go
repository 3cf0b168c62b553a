// Package redlock locks on a quorum of independent Redis nodes.
package redlock

import (
	_ "github.com/hashicorp/go-multierror"
	_ "github.com/redis/rueidis"
)
