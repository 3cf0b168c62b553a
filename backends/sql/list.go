package sql

import (
	"context"
	"iter"
	"strings"

	"github.com/tonsurance/lockkeeper/backends/record"
)

// page is how many rows one query of List reads: the only connection of a pool must not be
// kept while the caller works on them.
const page = 500

// List reads the rows from prefix on, page by page.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[record.Entry, error] {
	return func(yield func(record.Entry, error) bool) {
		after := []byte(prefix)
		if len(after) > 0 {
			// What is greater than the largest string below prefix begins with it, or comes
			// after it.
			after[len(after)-1]--
			after = append(after, 0xff, 0xff, 0xff)
		}
		for {
			entries, last, err := s.pageAfter(ctx, after, prefix)
			if err != nil {
				yield(record.Entry{}, err)
				return
			}
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
			if last == nil {
				return
			}
			after = last
		}
	}
}

// pageAfter is one page, and the name that it ends with; nil where it is the last one.
// Rows that are no records are left out: one of them must not hide the others.
func (s *Store) pageAfter(ctx context.Context, after []byte, prefix string) (entries []record.Entry, last []byte, err error) {
	err = s.with(ctx, func() error {
		entries, last = nil, nil
		rows, err := s.db.QueryContext(ctx, s.list, after)
		if err != nil {
			return err
		}
		defer rows.Close()
		n := 0
		for rows.Next() {
			var version, clock, present string
			var body, name []byte
			var stamp, now int64
			if err := rows.Scan(&version, &body, &stamp, &clock, &now, &present, &name); err != nil {
				return err
			}
			if n++; n == page {
				last = name
			}
			if !strings.HasPrefix(string(name), prefix) {
				if string(name) > prefix {
					last = nil
					break
				}
				continue
			}
			if e, err := s.entry(version, body, stamp, clock, now, present); err == nil {
				e.Name = string(name)
				entries = append(entries, e)
			}
		}
		return rows.Err()
	})
	return entries, last, err
}
