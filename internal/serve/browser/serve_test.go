package browser

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tonsurance/lockkeeper/internal/redistest"
	"github.com/tonsurance/lockkeeper/lock"
)

// durable nodes vote at once, also after a restart.
var durable = []string{"--appendonly", "yes", "--appendfsync", "always"}

func nodesFlag(nodes []*redistest.Server) string {
	return "--url=redlock://" + strings.Join(redistest.Addrs(nodes), ",") + "?restart-guard=" + guard.String()
}

func TestChangesAppearAsTheyHappen(t *testing.T) {
	browser := chromium(t)
	nodes := redistest.StartN(t, 3, durable...)
	at, end := serve(t, nodesFlag(nodes))
	all, key := open(t, browser, at), open(t, browser, at+"/lock?key=keeper")
	all.shows(".figures", "3 of 3")
	all.shows("main", "No lock is held.")
	key.shows("main", "It is free.")

	l := clients(t, nodes, "alpha", "bravo")
	first := take(t, l[0], "keeper", time.Hour)
	all.shows("#lock-keeper", "alpha")
	key.shows(".card", "alpha")
	key.shows(".card", fmt.Sprint(first.Token()))
	all.shows(".events", "acquired")
	all.waitFor(`document.getElementById("announce").textContent.includes("acquired")`)

	waiting := make(chan lock.Lease, 1)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() {
		lease, _ := lock.Acquire(ctx, l[1], "keeper", time.Hour, nil)
		waiting <- lease
	}()
	all.shows("#lock-keeper td:last-child", "1")
	key.shows(".waiters", "bravo")

	// What has the focus keeps it while the page changes around it.
	all.run(chromedp.Focus("#lock-keeper a"))
	require.NoError(t, first.Release(t.Context()))
	all.shows("#lock-keeper", "bravo")
	all.shows(".events", "handed over")
	all.waitFor(`document.activeElement === document.querySelector("#lock-keeper a")`)
	key.shows(".card", "bravo")
	second := <-waiting
	require.NotNil(t, second)

	all.run(chromedp.Click("#pause"))
	require.NoError(t, second.Release(t.Context()))
	key.shows("main", "It is free.")
	all.shows("#lock-keeper", "bravo") // paused
	all.run(chromedp.Click("#pause"))
	all.shows("main", "No lock is held.")
	for _, p := range []*page{all, key} {
		require.Empty(t, p.complaints())
	}
	end()
	all.shows("#lost", "connection")
}

func TestANodeThatGoesDownAndComesBackIsSeen(t *testing.T) {
	browser := chromium(t)
	nodes := redistest.StartN(t, 3, durable...)
	at, _ := serve(t, nodesFlag(nodes))
	p := open(t, browser, at)
	p.shows(".figures", "3 of 3")
	l := clients(t, nodes, "alpha")
	take(t, l[0], "keeper", time.Hour)
	p.shows("#lock-keeper", "alpha")

	nodes[2].Kill()
	p.shows(".figures", "2 of 3")
	p.shows(".nodes", "connection refused")
	p.shows(".nodes .pill.bad", "down")
	p.shows(".events", "node down")
	p.shows("#lock-keeper", "alpha") // two of three still say so
	p.waitFor(`document.title.startsWith("2/3 nodes")`)

	nodes[1].Kill()
	p.shows(".trouble", "The store does not say who holds what")
	p.shows(".stale #lock-keeper", "alpha")

	nodes[1].Restart(false)
	nodes[2].Restart(false)
	p.shows(".figures", "3 of 3")
	p.shows(".events", "node back")
	p.waitFor(`!document.querySelector(".stale") && !document.querySelector(".trouble:not([hidden])")`)
	p.waitFor(`document.title === "lockkeeper"`)
	require.Empty(t, p.complaints())
}

func TestTenThousandLocksStayUsable(t *testing.T) {
	browser := chromium(t)
	nodes := redistest.StartN(t, 3)
	for _, n := range nodes {
		n.Do("EVAL", `for i = 0, 9999 do
			redis.call("SET", string.format("redlock:tenant-%03d:job-%05d", i % 100, i), "host-" .. i % 7 .. ":" .. i .. "/ABCDEFGHIJKLMNOPQRSTUVWXYZ", "PX", 3600000 + i)
		end return 1`, "0")
	}
	at, _ := serve(t, nodesFlag(nodes))
	p := open(t, browser, at)
	p.shows(".pages", "of 10000 keys")
	rows, err := value[int](p, `document.querySelectorAll(".locks tbody tr").length`)
	require.NoError(t, err)
	require.Equal(t, 50, rows)

	p.run(chromedp.SendKeys("#prefix", "tenant-042:"))
	p.shows(".pages", "of 100 keys")
	p.waitFor(`location.search === "?prefix=tenant-042%%3A"`)
	p.run(chromedp.Click(`.pages a[rel="next"]`))
	p.shows(".pages", "51–100 of 100 keys")
	p.shows(".locks", "tenant-042:job-09942")
	p.run(chromedp.Click("#lock-tenant-042\\:job-09942 a"))
	p.shows("h1", "tenant-042:job-09942")
	p.shows(".card", "host-2:9942")
	p.run(chromedp.NavigateBack())
	p.shows(".pages", "51–100 of 100 keys")
	require.Empty(t, p.complaints())
}

// What a name says is text, and nothing that the browser does.
func TestHostileNamesDoNothing(t *testing.T) {
	browser := chromium(t)
	nodes := redistest.StartN(t, 1, durable...)
	at, _ := serve(t, nodesFlag(nodes))
	names := []string{`<script>window.hacked=true</script>`, `"><img src=x onerror='window.hacked=true'>`, "admin\u202egnp.exe", "javascript:window.hacked=true"}
	for i, name := range names {
		l := clients(t, nodes, fmt.Sprintf(`<svg onload='window.hacked=true'>%d`, i))
		take(t, l[0], name, time.Hour)
	}
	p := open(t, browser, at)
	for _, text := range []string{names[0], names[1], `"admin\u202egnp.exe"`, names[3], "<svg onload='window.hacked=true'>3"} {
		p.shows("main", text)
	}
	for _, name := range names {
		one := open(t, browser, at+"/lock?key="+url.QueryEscape(name))
		one.shows(".card", "<svg onload")
		one.waitFor(`window.hacked === undefined`)
		require.Empty(t, one.complaints())
	}
	p.waitFor(`window.hacked === undefined`)
	require.Empty(t, p.complaints())
}

func TestThePageIsUsableByKeyboardAndWithoutScripts(t *testing.T) {
	browser := chromium(t)
	nodes := redistest.StartN(t, 1, durable...)
	at, _ := serve(t, nodesFlag(nodes))
	l := clients(t, nodes, "alpha")
	take(t, l[0], "keeper", time.Hour)
	take(t, l[0], "other", time.Hour)
	p := open(t, browser, at)
	p.shows("#lock-keeper", "alpha")

	p.run(chromedp.KeyEvent(kb.Tab))
	p.waitFor(`document.activeElement.className === "skip" && document.activeElement.getBoundingClientRect().top >= 0`)
	p.run(chromedp.KeyEvent(kb.Enter))
	p.waitFor(`document.activeElement.id === "main"`)
	p.run(chromedp.KeyEvent(kb.Tab))
	p.waitFor(`document.activeElement.id === "prefix"`)
	p.waitFor(`getComputedStyle(document.activeElement).outlineStyle !== "none"`)
	p.run(chromedp.KeyEvent("oth"), chromedp.KeyEvent(kb.Enter))
	p.hasNot("main", "keeper")
	p.shows("main", "other")
	for range 4 { // the columns that sort
		p.run(chromedp.KeyEvent(kb.Tab))
	}
	p.run(chromedp.KeyEvent(kb.Tab))
	p.waitFor(`document.activeElement === document.querySelector("#lock-other a")`)
	p.waitFor(`getComputedStyle(document.activeElement).outlineStyle !== "none"`)
	p.run(chromedp.KeyEvent(kb.Enter))
	p.shows("h1", "other")

	without := open(t, browser, "about:blank")
	_, err := chromedp.Call(without.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	require.NoError(t, err)
	without.run(chromedp.Navigate(at+"/?prefix=keep"), chromedp.WaitVisible("#lock-keeper"))
	refresh, err := chromedp.Run(without.ctx, chromedp.AttributeValue(`noscript meta`, "content"))
	require.NoError(t, err)
	require.Equal(t, "5", refresh.Value)
}

// What a screen reader has of the page, wide and narrow: the narrow one shows its tables
// as cards, and they are tables all the same.
func TestAScreenReaderFindsItsWay(t *testing.T) {
	browser := chromium(t)
	nodes := redistest.StartN(t, 1, durable...)
	at, _ := serve(t, nodesFlag(nodes))
	l := clients(t, nodes, "alpha")
	take(t, l[0], "keeper", time.Hour)
	p := open(t, browser, at)
	p.shows("#lock-keeper", "alpha")
	for _, width := range []int64{1360, 390} {
		p.like(width, 800, "light")
		tree, err := chromedp.Call(p.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		require.NoError(t, err)
		found := map[string]bool{}
		for _, n := range tree.Nodes {
			if n.Role == nil || n.Ignored {
				continue
			}
			name := ""
			if n.Name != nil {
				name = strings.Trim(string(n.Name.Value), `"`)
			}
			found[strings.Trim(string(n.Role.Value), `"`)+" "+name] = true
		}
		for _, want := range []string{
			"banner ", "main Locks", "complementary Events", "region Nodes", "search ", "contentinfo ", "status ", "searchbox Key begins with", "button Pause",
			"heading Nodes", "heading Locks", "heading Events", "columnheader Key", "columnheader Holder", "columnheader Time left", "columnheader Vote",
			"rowheader keeper", "link keeper", "cell alpha", "link Skip to the locks", "navigation Pages of locks",
		} {
			assert.True(t, found[want], "%q at %d columns, of %v", want, width, found)
		}
		overflow, err := value[bool](p, `document.documentElement.scrollWidth > document.documentElement.clientWidth`)
		require.NoError(t, err)
		assert.False(t, overflow, "scrolls sideways at %d", width)
	}
	for _, scheme := range []string{"light", "dark"} {
		p.like(1360, 800, scheme)
		low, err := value[[]string](p, contrasts)
		require.NoError(t, err)
		assert.Empty(t, low, "too little contrast in %s", scheme)
	}
}

// contrasts are the texts whose contrast with what is behind them is below 4.5, the
// least of WCAG 2 (AA).
const contrasts = `(() => {
	const parse = (c) => (c.match(/[\d.]+/g) || []).map(Number);
	const luminance = ([r, g, b]) => {
		const f = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
		return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b);
	};
	const low = [];
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (texts.nextNode()) {
		const e = texts.currentNode.parentElement;
		if (!texts.currentNode.nodeValue.trim() || e.closest(".hidden, .skip, [hidden], noscript, .pages span") || !e.getClientRects().length) continue;
		let behind = e;
		while (behind && (parse(getComputedStyle(behind).backgroundColor)[3] ?? 1) === 0) behind = behind.parentElement;
		const a = luminance(parse(getComputedStyle(e).color));
		const b = luminance(parse(getComputedStyle(behind || document.body).backgroundColor));
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (ratio < 4.5) low.push(ratio.toFixed(2) + ": " + texts.currentNode.nodeValue.trim());
	}
	return low;
})()`
