package main

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/doctables"
)

func TestDefaultsAreAsTheDocumentsSay(t *testing.T) {
	cfg, err := parse(nil, func(string) string { return "" })
	require.NoError(t, err)
	checked, errs := doctables.Check("", map[string]any{
		"REDIS_NODES": "", "-nodes": "",
		"REDIS_LOCK_TTL_MS": cfg.ttl, "-ttl-ms": cfg.ttl,
		"REDIS_RETRY_COUNT": cfg.retryCount, "-retry-count": cfg.retryCount,
		"REDIS_RETRY_DELAY_MS": cfg.retryDelay, "-retry-delay-ms": cfg.retryDelay,
		"LOCK_KEY": cfg.key, "-key": cfg.key,
		"-dir":          doctables.Words("a directory of the user's own (file.DefaultDir)"),
		"-exit-if-held": cfg.exitIfHeld, "-interval": cfg.interval,
	})
	require.Empty(t, errs)
	require.NotEmpty(t, checked)
}
