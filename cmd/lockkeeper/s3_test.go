package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/tonsurance/lockkeeper/internal/programtest"
	"github.com/tonsurance/lockkeeper/internal/storetest"
)

func TestMain(m *testing.M) { os.Exit(programtest.Main(m)) }

// Each verb on a bucket, with credentials as the SDK's users have them.
func TestEachVerbOnS3(t *testing.T) {
	s := storetest.StartS3(t)
	binary := programtest.Lockkeeper(t)
	env := append(os.Environ(), "LOCKKEEPER_URL=s3://"+storetest.Bucket+"/ci?poll=100ms&endpoint="+s.Endpoint(),
		"AWS_ACCESS_KEY_ID="+storetest.RootUser, "AWS_SECRET_ACCESS_KEY="+storetest.Password, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull, "AWS_CONFIG_FILE="+os.DevNull)
	do := func(want int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		cmd := exec.CommandContext(t.Context(), binary, args...)
		cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &out
		err := cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Fatalf("lockkeeper %s: ended with %d, want %d: %v: %s", strings.Join(args, " "), code, want, err, &out)
		}
		return out.String()
	}
	has := func(text string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Fatalf("got %q, want %q in it", text, want)
			}
		}
	}
	// The job needs the credentials of the SDK, and not lockkeeper's.
	has(do(0, "run", "report", "--once", "--at-least", "1h", "-q", "--", "sh", "-c", `echo "$AWS_ACCESS_KEY_ID:$LOCKKEEPER_URL:$LOCKKEEPER_KEY"`), "root::report")
	has(do(75, "run", "report", "--once", "--", "echo", "twice"), "held")
	has(do(0, "list"), "report")
	has(do(0, "show", "report"), "report", "token")
	has(do(0, "health"), "s3", "honoured")
	watch := exec.Command(binary, "watch")
	watch.Env = env
	p := programtest.Start(t, watch)
	p.Sees(t, "report")
	p.Signal(t, os.Interrupt)
	if code := p.Exits(t); code != 0 {
		t.Fatalf("watch: ended with %d, want the end of a Ctrl-C, 0: %s", code, &p.Out)
	}
	do(0, "release", "report", "--force", "--yes")
	has(do(0, "run", "report", "--wait", "10s", "-q", "--", "echo", "again"), "again")
	has(do(0, "bench", "-n", "5"), "acquire")
	do(0, "clear", "--yes", "")
	has(do(69, "run", "report", "--url", "s3://nosuch?endpoint="+s.Endpoint(), "--once", "--", "true"), "make the bucket")
}
