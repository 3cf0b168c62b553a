package main

import (
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestThePicturesAreWhatThisDraws(t *testing.T) {
	pictures, err := draw(".")
	require.NoError(t, err)
	for name, text := range pictures {
		have, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, text, string(have), "%s: run make pictures", name)
	}
	found, err := filepath.Glob("*.svg")
	require.NoError(t, err)
	require.Len(t, found, len(pictures), "a picture that nothing draws")
}

func TestEachPictureCanBeReadByEverybody(t *testing.T) {
	pictures, err := draw(".")
	require.NoError(t, err)
	for name, text := range pictures {
		require.Less(t, len(text), 10_000, "%s is large", name)
		require.Contains(t, text, "prefers-color-scheme:dark", name)
		require.NotRegexp(t, `(?i)<script|href|@import|url\(`, text, "%s would need something from elsewhere", name)
		var title, desc string
		for d := xml.NewDecoder(strings.NewReader(text)); ; {
			token, err := d.Token()
			if err == io.EOF {
				break
			}
			require.NoError(t, err, name)
			e, ok := token.(xml.StartElement)
			if !ok {
				continue
			}
			switch e.Name.Local {
			case "title":
				require.NoError(t, d.DecodeElement(&title, &e))
			case "desc":
				require.NoError(t, d.DecodeElement(&desc, &e))
			}
		}
		require.NotEmpty(t, title, name)
		require.Greater(t, len(desc), len(title), "%s: what it shows, for who can't see it", name)
	}
}

// TestEachPictureStandsOnAPageWithItsMeaningInWords: an image without a text says nothing to a
// screen reader, nor where it can't be loaded.
func TestEachPictureStandsOnAPageWithItsMeaningInWords(t *testing.T) {
	shown := map[string]bool{}
	require.NoError(t, filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() && d.Name() == ".git" {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`!\[([^\]]*)\]\(([^)]+)\)`).FindAllStringSubmatch(string(text), -1) {
			require.Greater(t, len(m[1]), 20, "%s: %s has no text for who can't see it", path, m[2])
			if !strings.Contains(m[2], "://") {
				require.FileExists(t, filepath.Join(filepath.Dir(path), m[2]))
				shown[filepath.Base(m[2])] = true
			}
		}
		return nil
	}))
	pictures, err := draw(".")
	require.NoError(t, err)
	for name := range pictures {
		require.True(t, shown[name], "no page shows %s", name)
	}
}

func recorded(t *testing.T) []event {
	t.Helper()
	text, err := os.ReadFile(takeover)
	require.NoError(t, err)
	events, err := parseEvents(string(text))
	require.NoError(t, err)
	require.Equal(t, string(text), formatEvents(events))
	return events
}

// shape is what a terminal shows whenever it is recorded: without times, processes and
// tokens, and with one update for however many there are.
func shape(events []event, terminal int) []string {
	var lines []string
	for _, e := range events {
		if e.terminal != terminal {
			continue
		}
		line := regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{6}`).ReplaceAllString(e.line, "TIME")
		line = regexp.MustCompile(`\d{16}`).ReplaceAllString(line, "TOKEN")
		line = regexp.MustCompile(`[^ :]+:\d+ leads`).ReplaceAllString(line, "HOLDER leads")
		line = regexp.MustCompile(`update \d+`).ReplaceAllString(line, "update N")
		line = regexp.MustCompile(`kill -9 \d+`).ReplaceAllString(line, "kill -9 PID")
		if len(lines) == 0 || lines[len(lines)-1] != line {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestTheRecordingHoldsTogether: what the picture is to show happened in that order, and the
// terminals agree on processes and tokens.
func TestTheRecordingHoldsTogether(t *testing.T) {
	at := func(terminal int, pattern string) (time.Duration, string) {
		t.Helper()
		for _, e := range recorded(t) {
			if m := regexp.MustCompile(pattern).FindStringSubmatch(e.line); e.terminal == terminal && m != nil {
				return e.at, m[len(m)-1]
			}
		}
		require.Fail(t, "nothing matches", "terminal %d: %s", terminal, pattern)
		return 0, ""
	}
	led, token := at(1, `leading with fencing token (\d+)`)
	stood, seen := at(2, `standing by: .* leads with token (\d+)`)
	_, holder := at(2, `standing by: [^ ]+:(\d+) leads`)
	killing, victim := at(3, `kill -9 (\d+)`)
	killed, _ := at(1, `Killed`)
	next, larger := at(2, `leading with fencing token (\d+)`)
	require.Equal(t, token, seen)
	require.Equal(t, holder, victim)
	require.Less(t, led, stood)
	require.Less(t, stood, killing)
	require.Less(t, killing, killed)
	require.Less(t, killing, next)
	require.Greater(t, larger, token) // of equal length
}

func TestWhatIsNoRecordingIsRefused(t *testing.T) {
	for _, text := range []string{"x 1 $\n", "1.0 4 $\n", "1.0\n", "1.0 1\n", "1.0 x $\n"} {
		_, err := parseEvents(text)
		require.ErrorContains(t, err, "is no line of a recording")
	}
}
