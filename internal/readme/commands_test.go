package readme

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/redistest"
)

// command is one that a page shows, in a block of commands or within a sentence.
type command struct {
	page, text string
	env        []string // names of the variables that stand before it
	words      []string
	shown      bool // in a block
}

// assignments are the variables that stand before a command.
var assignments = regexp.MustCompile(`^(?:[A-Z_]+=\S* )*`)

// commands are all of the pages: lines of blocks marked sh, lines that begin with a
// prompt, and spans that begin with the name of a program that checkers knows.
func commands(t *testing.T) []command {
	t.Helper()
	var found []command
	add := func(page, text string, shown bool) {
		for part := range strings.SplitSeq(text, " && ") {
			c := command{page: page, text: part, words: words(part), shown: shown}
			for len(c.words) > 0 && regexp.MustCompile(`^[A-Z_]+=`).MatchString(c.words[0]) {
				name, _, _ := strings.Cut(c.words[0], "=")
				c.env, c.words = append(c.env, name), c.words[1:]
			}
			if len(c.words) > 0 || len(c.env) > 0 {
				found = append(found, c)
			}
		}
	}
	for _, page := range pages(t) {
		if historical(page) {
			continue
		}
		text := read(t, page)
		for _, m := range regexp.MustCompile("(?ms)^ *```(\\w*)\\n(.*?)^ *```$").FindAllStringSubmatch(text, -1) {
			for line := range strings.Lines(m[2]) {
				line = strings.TrimSpace(line)
				if prompted, ok := strings.CutPrefix(line, "$ "); ok {
					add(page, prompted, true)
				} else if m[1] == "sh" && line != "" {
					add(page, line, true)
				}
			}
		}
		for _, span := range spans.FindAllString(fences.ReplaceAllString(text, ""), -1) {
			span = strings.Join(strings.Fields(strings.Trim(span, "`")), " ")
			first, _, _ := strings.Cut(assignments.ReplaceAllString(span, ""), " ")
			if checkers[first] != nil && strings.Contains(span, " ") {
				add(page, span, false)
			}
		}
	}
	return found
}

// words splits a line as a shell does, as far as the pages need that: quotes, and a
// comment at the end.
func words(line string) (found []string) {
	word, quote, begun := "", rune(0), false
	for _, r := range line + " " {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word += string(r)
		case r == '\'' || r == '"':
			quote, begun = r, true
		case r == '#' && !begun:
			return found
		case r != ' ':
			word, begun = word+string(r), true
		case begun:
			found, word, begun = append(found, word), "", false
		}
	}
	return found
}

// checkers run a program's commands, or show that they parse, by the program.
var checkers map[string]func(t *testing.T, c command)

func init() {
	checkers = map[string]func(t *testing.T, c command){
		"go": checkGo, "make": checkMake, "docker": checkDocker, "lockkeeper": checkLockkeeper,
		"redis-cli": checkRedisCLI, "node": checkNode, "docker/check.sh": func(*testing.T, command) {}, // package docker runs it
	}
}

// others are programs that no test can have, and why.
var others = map[string]string{
	"git": "it needs the network", "cd": "of the shell", "curl": "it asks a server, which another line runs", "kubectl": "it needs a cluster",
}

func TestEveryCommandRunsOrParses(t *testing.T) {
	checked := map[string]int{}
	for _, c := range commands(t) {
		for _, name := range c.env {
			require.True(t, isVariable(t, name), "%s: %s: nothing reads %s", c.page, c.text, name)
		}
		if len(c.words) == 0 {
			continue
		}
		check := checkers[c.words[0]]
		if check == nil {
			require.True(t, !c.shown || others[c.words[0]] != "", "%s: nothing checks the command %s", c.page, c.text)
			continue
		}
		t.Run(c.page+"/"+c.text, func(t *testing.T) { check(t, c) })
		checked[c.words[0]]++
	}
	for name, least := range map[string]int{"go": 20, "make": 20, "docker": 8, "lockkeeper": 10, "redis-cli": 5} {
		require.GreaterOrEqual(t, checked[name], least, "commands of %s", name)
	}
}

// isVariable says whether a program of this module reads a variable.
func isVariable(t *testing.T, name string) bool {
	t.Helper()
	for _, dir := range []string{"internal/cli", "examples/keeper", "internal/redistest", "docker", "lock/lockotel/example", "lock/rwlock", "backends/nats"} {
		files, err := filepath.Glob(filepath.Join(root, dir, "*"))
		require.NoError(t, err)
		for _, file := range files {
			if text, err := os.ReadFile(file); err == nil && regexp.MustCompile(`\b`+name+`\b`).Match(text) {
				return true
			}
		}
	}
	return false
}

// find is the directory of a path that a command names, in whatever module it is meant
// to be called in.
func find(t *testing.T, path string) (dir string, ok bool) {
	t.Helper()
	for _, module := range []string{".", "internal/torture", "internal/peerbench", "lock/lockotel"} {
		dir := filepath.Join(root, module, path)
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir, true
		}
	}
	return "", false
}

func checkGo(t *testing.T, c command) {
	if len(c.words) < 2 {
		return
	}
	verb, args := c.words[1], c.words[2:]
	require.NoError(t, exec.CommandContext(t.Context(), "go", "help", verb).Run(), "go has no command %s", verb)
	if i := slices.Index(args, "-run"); verb == "test" && i >= 0 && args[i+1] != "NAME" {
		requireTests(t, c, args[i+1])
	}
	for i, arg := range args {
		if local, ok := strings.CutPrefix(arg, modulePath); ok {
			local, _, _ = strings.Cut(strings.TrimPrefix(local, "/"), "@")
			require.DirExists(t, filepath.Join(root, local), c.text)
			if verb == "doc" {
				cmd := exec.CommandContext(t.Context(), "go", "doc", arg)
				cmd.Dir = root
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, "%s", out)
			}
		}
		if !strings.HasPrefix(arg, "./") || arg == "./..." {
			continue
		}
		dir, ok := find(t, arg)
		require.True(t, ok, "%s: there is no %s", c.text, arg)
		if verb == "run" && i+1 < len(args) {
			flags := runHelp(t, dir)
			for _, flag := range args[i+1:] {
				if name, ok := strings.CutPrefix(flag, "-"); ok {
					name, _, _ = strings.Cut(name, "=")
					require.Contains(t, flags, name, c.text)
				}
			}
			return
		}
	}
}

// requireTests fails if the packages of a go test have no test that -run would run: go passes
// then.
func requireTests(t *testing.T, c command, pattern string) {
	t.Helper()
	pattern, _, _ = strings.Cut(pattern, "/")
	wanted := regexp.MustCompile(pattern)
	for _, arg := range c.words[2:] {
		dir := filepath.Join(root, filepath.Dir(c.page))
		switch {
		case strings.HasPrefix(arg, "./"):
			var ok bool
			dir, ok = find(t, arg)
			require.True(t, ok, "%s: there is no %s", c.text, arg)
		case arg != ".":
			continue
		}
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		require.NoError(t, err)
		require.True(t, slices.ContainsFunc(files, func(file string) bool {
			source, err := os.ReadFile(file)
			require.NoError(t, err)
			return slices.ContainsFunc(testFuncs.FindAllStringSubmatch(string(source), -1), func(m []string) bool { return wanted.MatchString(m[1]) })
		}), "%s: %s: %s has no such test", c.page, c.text, arg)
	}
}

// runHelp are the flags of a program: those of its help, or, in a module whose
// dependencies may not be here, those of its source.
func runHelp(t *testing.T, dir string) []string {
	t.Helper()
	rel, err := filepath.Rel(root, dir)
	require.NoError(t, err)
	pattern, text := `(?m)^  -(\S+)`, ""
	if nested(t, filepath.Join(rel, "main.go")) {
		pattern = `flags?\.\w+\((?:&[\w.]+, )?"([\w-]+)"`
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, file := range files {
			source, err := os.ReadFile(file)
			require.NoError(t, err)
			text += string(source)
		}
	} else {
		program := filepath.Join(t.TempDir(), "program")
		goCommand(t, dir, "build", "-o", program, ".")
		out, _ := exec.CommandContext(t.Context(), program, "-help").CombinedOutput() // 0 or 2
		text = string(out)
	}
	var flags []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		flags = append(flags, m[1])
	}
	return flags
}

func checkMake(t *testing.T, c command) {
	makefile := read(t, "Makefile")
	for _, word := range c.words[1:] {
		if strings.HasPrefix(word, "-") {
			continue // an option of make
		}
		if name, _, assigns := strings.Cut(word, "="); assigns {
			require.Regexp(t, `(?m)^`+name+` \?=`, makefile, c.text)
		} else {
			require.Regexp(t, `(?m)^`+word+`:`, makefile, c.text)
		}
	}
}

// There may be no Docker here: what a command names is in the compose file.
func checkDocker(t *testing.T, c command) {
	compose := read(t, "docker/compose.yml")
	args := c.words[1:]
	switch args[0] {
	case "compose":
		require.Equal(t, []string{"-f", "docker/compose.yml"}, args[1:3], c.text)
		if args = args[3:]; args[0] == "--profile" {
			require.Regexp(t, `profiles: \[.*\b`+args[1]+`\b.*\]`, compose, c.text)
			args = args[2:]
		}
		require.Contains(t, []string{"up", "down", "ps", "logs"}, args[0], c.text)
	case "logs", "restart", "stop", "kill", "start":
		name := args[len(args)-1]
		require.Contains(t, compose, "container_name: "+name+"\n", c.text)
	case "run":
		for _, m := range regexp.MustCompile(`-v (lockkeeper[\w-]*):`).FindAllStringSubmatch(c.text, -1) {
			require.Regexp(t, `\bname: `+m[1]+` `, compose, c.text)
		}
	default:
		require.Fail(t, "nothing checks this", c.text)
	}
}

func TestMain(m *testing.M) { os.Exit(programtest.Main(m)) }

// A command with --help is parsed whole and does nothing.
func checkLockkeeper(t *testing.T, c command) {
	args := slices.DeleteFunc(slices.Clone(c.words[1:]), func(w string) bool { return strings.HasPrefix(w, "[") })
	own, rest := args, []string(nil)
	if i := slices.Index(args, "--"); i >= 0 {
		own, rest = args[:i], args[i:]
	}
	cmd := exec.CommandContext(t.Context(), programtest.Lockkeeper(t), append(append(slices.Clone(own), "--help"), rest...)...)
	cmd.Env = []string{"HOME=" + t.TempDir()}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s: %s", c.text, out)
	require.Contains(t, string(out), "\n  lockkeeper "+own[0], "%s: no such command", c.text)
}

// What the pages type into redis-cli is tried on a server of this test's.
func checkRedisCLI(t *testing.T, c command) {
	cli, err := exec.LookPath("redis-cli")
	if redistest.Binary() == "" || errors.Is(err, exec.ErrNotFound) {
		t.Skip(redistest.Missing)
	}
	require.NoError(t, err)
	s := redistest.Start(t)
	args := slices.Clone(c.words[1:])
	require.Equal(t, []string{"-p", "6379"}, args[:2], c.text)
	args[1] = strconv.Itoa(s.Port())
	out, err := exec.CommandContext(t.Context(), cli, args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NotRegexp(t, `(?m)^(\(error\) )?ERR`, string(out), c.text)
}

// The program stands beside its page; its own test runs it.
func checkNode(t *testing.T, c command) {
	require.FileExists(t, filepath.Join(root, filepath.Dir(c.page), c.words[1]), c.text)
}

func TestCommandsAreSplitAsAShellDoes(t *testing.T) {
	require.Equal(t, []string{"redis-cli", "--scan", "--pattern", "redlock:*"}, words("redis-cli --scan --pattern 'redlock:*'   # not KEYS"))
	require.Equal(t, []string{"make", "torture", "TORTURE=-seed 505"}, words("make torture TORTURE='-seed 505'"))
	require.Equal(t, []string{"-v", "$PWD:/backup", ""}, words(`-v "$PWD":/backup ''`))
}
