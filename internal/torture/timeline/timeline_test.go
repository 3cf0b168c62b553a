package timeline

import (
	"bytes"
	"encoding/xml"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/torture/history"
)

func second(n float64) int64 { return int64(1e12) + int64(n*1e9) }

func sample() *history.History {
	return &history.History{Seed: 7, Nodes: 3, Quorum: 2, Clients: 2, Span: history.Span{From: second(0), To: second(65)},
		Leases: []history.Lease{
			{Key: "<k>", Client: 0, Run: 1, Token: 1, Asked: second(31), Got: second(31.1), Until: second(33)},
			{Key: "<k>", Client: 1, Run: 1, Token: 2, Asked: second(32), Got: second(32.1), Until: second(34)},
		},
		Ops: []history.Op{{Key: "<k>", Token: 1, Called: second(32.4), Applied: second(32.5)}},
		Faults: []history.Fault{
			{Kind: "node: <stop>", Node: 1, Client: -1, Impair: history.OneNode, Span: history.Span{From: second(30), To: second(32)}},
			{Kind: "", Node: 1, Client: -1, Impair: history.OneNode, Span: history.Span{From: second(32), To: second(35)}},
			{Kind: "network: delay", Node: 1, Client: 1, Note: "3ms", Impair: history.OnePath, Span: history.Span{From: second(30), To: second(32)}},
		}}
}

func TestAFailureIsDrawnCloselyAndWithItsSurroundings(t *testing.T) {
	h := sample()
	found := h.Overlaps()
	require.Len(t, found, 1)
	var out bytes.Buffer
	require.NoError(t, Draw(&out, h, "head", found, false))
	text := out.String()
	require.Equal(t, 3+3, strings.Count(text, "<svg "), "three close strips, three of 10s")
	for _, want := range []string{"violation 1, 2s around it", "violation 1, 5ms around it", "stroke=\"#f00\"", "client 1.1, token 2",
		"node: &lt;stop&gt;", "sits out its guard time", "network: delay", ": 3ms", "refused", "&lt;k&gt;", "32.100000s"} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "<k>")
	require.NotContains(t, text, "NaN")
	for _, svg := range regexp.MustCompile(`(?s)<svg .*?</svg>`).FindAllString(text, -1) {
		wellFormed(t, svg)
	}
}

func TestAGoodRunIsDrawnWhole(t *testing.T) {
	h := sample()
	h.Leases = h.Leases[:1]
	var out bytes.Buffer
	require.NoError(t, Draw(&out, h, "head", nil, true))
	require.Equal(t, 7, strings.Count(out.String(), "<svg "), "65s in strips of %v", strip)
	require.NotContains(t, out.String(), "VIOLATION")
	require.Equal(t, 10*time.Second, strip)
}

func wellFormed(t *testing.T, text string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
	}
}
