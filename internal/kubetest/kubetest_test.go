package kubetest_test

import (
	"testing"

	"github.com/tonsurance/lockkeeper/internal/kubetest"
)

func TestTheFakeIsFaithful(t *testing.T) {
	s := &kubetest.Server{}
	client, stop := s.Client()
	defer stop()
	kubetest.Fidelity(t, client, "http://kubernetes", "default", s.Compact)
}
