package browser

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/cli"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
	"github.com/tonsurance/lockkeeper/redlock"
)

// asCommand makes this test program the command, for the server to be a process.
const asCommand = "LOCKKEEPER_BROWSER_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		os.Exit(cli.Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// limit is for what a page is to show: a busy machine takes its time.
const limit = time.Minute

// chromium is a browser, of which each test opens pages. Without one a test is skipped,
// or fails where servers are required.
func chromium(t *testing.T) context.Context {
	t.Helper()
	program := os.Getenv("LOCKKEEPER_CHROMIUM")
	if program == "" {
		for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
			if path, err := exec.LookPath(name); err == nil {
				program = path
				break
			}
		}
	}
	if program == "" {
		const missing = "no Chromium: install it, or name it in LOCKKEEPER_CHROMIUM"
		if os.Getenv("LOCKKEEPER_REQUIRE_SERVERS") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.WindowSize(1360, 900), chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(limit))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(ctx))
	return ctx
}

// page is one that is open.
type page struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex // guards errors
	errors []string   // what the browser complained of
}

// open opens a page. What the browser complains of, such as a breach of the content
// policy, is kept for [page.complaints].
func open(t *testing.T, browser context.Context, url string) *page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	p := &page{t: t, ctx: ctx}
	require.NoError(t, chromedp.Listen(ctx, func(event any) {
		text := ""
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			text = e.ExceptionDetails.Text
		case *log.EventEntryAdded:
			text = e.Entry.Text + " " + e.Entry.URL
		}
		if text != "" {
			p.mu.Lock()
			p.errors = append(p.errors, text)
			p.mu.Unlock()
		}
	}))
	_, err := chromedp.Call(ctx, log.Enable, cdp.Empty{})
	require.NoError(t, err)
	p.run(chromedp.Navigate(url))
	return p
}

func (p *page) run(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	require.NoError(p.t, chromedp.Do(ctx, actions...))
}

// waitFor waits until an expression is true in the page, which may load another meanwhile.
func (p *page) waitFor(expression string, args ...any) {
	p.t.Helper()
	expression = "!!(" + fmt.Sprintf(expression, args...) + ")"
	var last error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		is, err := value[bool](p, expression)
		if is {
			return
		}
		last = err
	}
	text, _ := value[string](p, "document.body.innerText")
	p.t.Fatalf("never was %s (%v); the page:\n%s", expression, last, text)
}

// value is that of an expression in the page.
func value[T any](p *page, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression))
}

// shows waits for a text in what a selector finds.
func (p *page) shows(selector, text string) {
	p.t.Helper()
	p.waitFor("[...document.querySelectorAll(%q)].some(e => e.innerText.includes(%q))", selector, text)
}

// hasNot waits until nothing that a selector finds has a text.
func (p *page) hasNot(selector, text string) {
	p.t.Helper()
	p.waitFor("![...document.querySelectorAll(%q)].some(e => e.innerText.includes(%q))", selector, text)
}

// complaints are what the browser complained of so far.
func (p *page) complaints() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string{}, p.errors...)
}

// like makes a page one of a size, in light or dark.
func (p *page) like(width, height int64, scheme string) {
	p.t.Helper()
	_, err := chromedp.Call(p.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 600})
	require.NoError(p.t, err)
	_, err = chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	require.NoError(p.t, err)
}

// picture takes one of what the window shows. With LOCKKEEPER_PICTURES it is kept in that
// directory; it is taken in any case, so that it can be.
func (p *page) picture(name string) {
	p.t.Helper()
	shot, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	require.NoError(p.t, err)
	small := fewColours(p.t, shot)
	if dir := os.Getenv("LOCKKEEPER_PICTURES"); dir != "" {
		require.NoError(p.t, os.MkdirAll(dir, 0o755))
		require.NoError(p.t, os.WriteFile(filepath.Join(dir, name+".png"), small, 0o644))
	}
}

// fewColours is a PNG with the 256 colours that it has most of: a third of its size, and
// nobody sees it.
func fewColours(t *testing.T, shot []byte) []byte {
	full, err := png.Decode(bytes.NewReader(shot))
	require.NoError(t, err)
	times := map[color.RGBA]int{}
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(full.At(x, y)).(color.RGBA) }
	box := full.Bounds()
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			times[at(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(times), func(a, b color.RGBA) int { return times[b] - times[a] })
	var palette color.Palette
	for _, c := range colours[:min(256, len(colours))] {
		palette = append(palette, c)
	}
	nearest := map[color.RGBA]uint8{}
	for _, c := range colours {
		nearest[c] = uint8(palette.Index(c))
	}
	few := image.NewPaletted(box, palette)
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			few.SetColorIndex(x, y, nearest[at(x, y)])
		}
	}
	var b bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	require.NoError(t, encoder.Encode(&b, few))
	return b.Bytes()
}

// serve starts lockkeeper serve over nodes and returns its address.
func serve(t *testing.T, args ...string) (address string, end func()) {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	c := exec.Command(program, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	c.Env = append(os.Environ(), asCommand+"=1", "TZ=UTC")
	stderr, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	found := make(chan string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			t.Log(lines.Text())
			if _, rest, ok := strings.Cut(lines.Text(), "http://"); ok {
				select {
				case found <- "http://" + strings.Fields(rest)[0]:
				default:
				}
			}
		}
	}()
	var once sync.Once
	end = func() {
		once.Do(func() {
			_ = c.Process.Signal(syscall.SIGTERM)
			<-read
			require.NoError(t, c.Wait(), "SIGTERM is its ordinary end")
		})
	}
	t.Cleanup(func() { _ = c.Process.Kill(); <-read; _ = c.Wait() })
	select {
	case address = <-found:
		u, err := url.Parse(address)
		require.NoError(t, err)
		return "http://" + u.Host, end
	case <-time.After(limit):
		t.Fatal("serve said no address")
		return "", nil
	}
}

// guard is all clients'. No lease may be longer.
const guard = 2 * time.Hour

// clients are several processes' as far as the nodes can see.
func clients(t *testing.T, nodes []*redistest.Server, names ...string) []*redlock.Locker {
	t.Helper()
	var all []*redlock.Locker
	for _, name := range names {
		var urls []string
		for _, addr := range redistest.Addrs(nodes) {
			urls = append(urls, "redis://"+addr)
		}
		l, err := redlock.Dial(t.Context(), urls, &redlock.Options{Owner: name, RestartGuard: guard})
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		all = append(all, l)
	}
	return all
}

func take(t *testing.T, l lock.Locker, key string, ttl time.Duration) lock.Lease {
	t.Helper()
	lease, err := lock.Acquire(t.Context(), l, key, ttl, nil)
	require.NoError(t, err)
	return lease
}
