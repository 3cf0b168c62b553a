// Package browser tests lockkeeper serve in a real browser, with real nodes, and makes the
// pictures of its page. It is a module of its own for what drives the browser: make browser.
package browser
