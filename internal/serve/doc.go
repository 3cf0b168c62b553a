// Package serve is a page for operators: a small web server that shows the nodes of a
// store, its locks and what happens to them, live, and the same as JSON and as metrics.
//
//	s, err := serve.New(source, &serve.Options{Store: "redlock://h1,h2,h3"})
//	...
//	err = s.Serve(ctx, listener) // until ctx ends
//
// It reads and changes nothing: every request is GET or HEAD.
//
// # How
//
// One [Source] is asked by one poller, however many pages are open and whatever they
// show. Each answer makes a frame, which never changes; what pages show of a frame is
// rendered once for all that show the same. A page is complete HTML, and a stream of
// server-sent events replaces the parts of it that have changed. Who reads slowly gets
// fewer frames, and is dropped if a write takes too long; nobody waits for it.
//
// # What is guaranteed
//
//   - The source is asked for its locks at most once every Interval and for its health at
//     most once every 5 seconds or Interval, if that is longer. A request asks it nothing.
//   - What a store can't tell is shown as not known, never as zero.
//   - Names that others chose (keys, holders, nodes) are shown as text: escaped, with
//     what can't be printed in the notation of Go, and apart from the direction of
//     the text around them.
//   - The Host of a request must be an address, localhost, or a name that was given, so
//     that a page of another site can't read this one through a name of its own (DNS
//     rebinding). The content policy allows this server's own files alone.
//
// # What is not
//
// There is no authentication and no TLS: anyone who reaches the address can read the names
// of keys and holders. Serve it on loopback, or behind a proxy that lets operators in.
package serve
