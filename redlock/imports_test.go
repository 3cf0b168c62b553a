package redlock

import (
	_ "github.com/alicebob/miniredis/v2"
)
