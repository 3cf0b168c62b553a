//go:build unix

package programtest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// failure is a test that may fail.
type failure struct {
	testing.TB
	text string
}

func (f *failure) Fatalf(format string, args ...any) {
	f.text = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// fails returns what a test fails with, and "" when it does not.
func fails(t *testing.T, test func(t testing.TB)) string {
	t.Helper()
	f := &failure{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(f)
	}()
	<-done
	return f.text
}

func shell(t *testing.T, script string) *Program {
	t.Helper()
	return Start(t, exec.Command("/bin/sh", "-c", script))
}

func TestAProgramIsBuiltOnceAndStandsAlone(t *testing.T) {
	path := Build(t, "./testdata/echo")
	require.Equal(t, path, Build(t, "./testdata/echo"))
	require.Equal(t, path, BuildIn(t, t.TempDir(), "./testdata/echo"))
	alone, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, alone, 1)
	p := Start(t, exec.Command(path, "built"))
	p.Sees(t, "built\n")
	require.Zero(t, p.Exits(t))
}

func TestAProgramThatIsNoTestBuildsInAFolderOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	builds.mu.Lock()
	was := builds.dir
	builds.dir = "" // as where Main does not run
	builds.mu.Unlock()
	defer func() {
		builds.mu.Lock()
		builds.dir = was
		builds.mu.Unlock()
	}()
	path := BuildIn(t, dir, "./testdata/echo")
	require.Equal(t, dir, filepath.Dir(filepath.Dir(path)))
	require.FileExists(t, path)
}

func TestWhatAProcessWritesIsAwaited(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", "echo one >&2; read more; echo two 22; read more; exit 3")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	p := Start(t, cmd)
	p.Sees(t, "one\n")
	_, err = io.WriteString(in, "\n")
	require.NoError(t, err)
	require.Equal(t, []string{"two 22", "22"}, p.Finds(t, `two (\d+)`))
	require.NoError(t, in.Close())
	require.Equal(t, 3, p.Exits(t))
	require.Equal(t, "one\ntwo 22\n", p.Out.String())
}

func TestNextGivesEachWholeLineOnce(t *testing.T) {
	p := shell(t, "printf 'a 1\na 2\n\nb 3\nrest'")
	require.Equal(t, []string{"a 1", "1"}, p.Next(t, `^a (\d)$`))
	require.Equal(t, []string{"a 2", "2"}, p.Next(t, `^a (\d)$`))
	require.Equal(t, []string{""}, p.Next(t, `^.*$`))
	require.Equal(t, []string{"b 3", "3"}, p.Next(t, `b (\d)`))
	require.Equal(t, "it ended without a line with rest: "+p.Out.String(), fails(t, func(t testing.TB) { p.Next(t, "rest") }))
}

func TestAProcessThatEndsWithoutTheTextFailsTheTest(t *testing.T) {
	p := shell(t, "echo other")
	const other = ": other\n"
	require.Equal(t, `it ended without "text"`+other, fails(t, func(t testing.TB) { p.Sees(t, "text") }))
	require.Equal(t, `it ended without a match of te.t`+other, fails(t, func(t testing.TB) { p.Finds(t, "te.t") }))
}

// childEnv makes this test binary one whose test leaves a process behind.
const childEnv = "PROGRAMTEST_CHILD"

func TestLeavesAProcessBehind(t *testing.T) {
	how := os.Getenv(childEnv)
	if how == "" {
		t.Skip("run by TestAProcessEndsHoweverItsTestDoes")
	}
	cmd := exec.Command("/bin/sh", "-c", "echo runs >&2; exec sleep 600")
	cmd.Stdout = os.Stdout
	Start(t, cmd).Sees(t, "runs")
	fmt.Println("runs")
	switch how {
	case "fails":
		t.Fatal("failed")
	case "panics":
		panic("panicked")
	default: // it is killed
		select {}
	}
}

// The process has the standard output of its test: who reads it sees the end of both.
func TestAProcessEndsHoweverItsTestDoes(t *testing.T) {
	for _, how := range []string{"fails", "panics", "is killed"} {
		t.Run(how, func(t *testing.T) {
			if runtime.GOOS != "linux" && how != "fails" {
				t.Skip("only Linux ends a process with its parent")
			}
			child := exec.Command(os.Args[0], "-test.run=^TestLeavesAProcessBehind$")
			child.Env = append(os.Environ(), childEnv+"="+how, "TMPDIR="+t.TempDir()) // one that is killed removes nothing
			out, in, err := os.Pipe()                                                 // not StdoutPipe: it is closed with the child, before the process ends
			require.NoError(t, err)
			defer out.Close()
			child.Stdout = in
			p := Start(t, child)
			require.NoError(t, in.Close())
			require.NoError(t, out.SetReadDeadline(time.Now().Add(Limit)))
			read := bufio.NewReader(out)
			for line := ""; !strings.HasSuffix(line, "runs\n"); {
				line, err = read.ReadString('\n')
				require.NoError(t, err)
			}
			if how == "is killed" {
				p.Signal(t, syscall.SIGKILL)
			}
			_, err = io.Copy(io.Discard, read)
			require.NoError(t, err)
			require.NotZero(t, p.Exits(t))
		})
	}
}
