package main

var inS3 = []string{"./backends/s3"}

// s3Mutants are mistakes in backends/s3, where it decides what to rely on in a store.
var s3Mutants = []mutant{
	{name: "s3-unchecked", tests: true, in: inS3, what: "a store is not tried before its first lock",
		changes: one("backends/s3/check.go", "\tif err := s.checkAll(ctx); err != nil {", "\tif err := ctx.Err(); err != nil {")},
	{name: "s3-clocks-unchecked", tests: true, in: inS3, what: "ages count although the store's clocks differ",
		changes: one("backends/s3/check.go", "agree := -allowed <= apparent &&", "agree := d >= 0 || -allowed <= apparent &&")},
	{name: "s3-slow-clocks", tests: true, in: inS3, what: "a slow answer shows that clocks agree",
		changes: one("backends/s3/check.go", "apparent <= max(time.Second, s.skew-time.Second)", "apparent <= d+allowed")},
	{name: "s3-age-of-another-state", tests: true, in: inS3, what: "an age counts that may be of the state before",
		changes: one("backends/s3/store.go", "if o.etag != shown && s.age(o) > 1 {", "if o.etag != shown && s.age(o) < 0 {")},
	{name: "s3-content-of-another-state", tests: true, in: inS3, what: "content and ETag may be of two states",
		changes: one("backends/s3/store.go", "!s.checks.hashes.Load() ||", "len(name) > 0 ||")},
	{name: "s3-hashes-alone", tests: true, in: inS3, what: "an object whose ETag is no hash can't be read where others' is",
		changes: one("backends/s3/store.go", "o.etag == before.etag && bytes", "o.etag == before.etag+\"x\" && bytes")},
	{name: "s3-age-too-exact", tests: true, in: inS3, what: "an age counts without the clocks' resolution and skew",
		changes: one("backends/s3/store.go", "o.date.Sub(o.put)-time.Second-s.skew)", "o.date.Sub(o.put))")},
	{name: "s3-any-409", tests: true, in: inS3, what: "every 409 is a conflict",
		changes: one("backends/s3/store.go", "f.code == \"ConditionalRequestConflict\",", "f.status == http.StatusConflict,")},
}
