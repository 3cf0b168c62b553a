package lock_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/tonsurance/lockkeeper/lock"
)

// What happens to locks goes into the log: a loss is a warning, everyday refusals
// are for those who look closer.
func ExampleObserve() {
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr { // what differs from run to run
			if a.Key == slog.TimeKey || a.Key == "took" || a.Key == "held" {
				return slog.Attr{}
			}
			return a
		},
	}))
	locker := lock.Observe(&oneProcess{}, func(e lock.Event) {
		level, attrs := slog.LevelInfo, []slog.Attr{slog.String("key", e.Key), slog.Duration("took", e.Duration)}
		if e.Token != 0 {
			attrs = append(attrs, slog.Uint64("token", e.Token))
		}
		if held, ok := errors.AsType[*lock.HeldError](e.Err); ok {
			level, attrs = slog.LevelDebug, append(attrs, slog.String("holder", held.Holder))
		} else if e.Err != nil {
			level, attrs = slog.LevelWarn, append(attrs, slog.Any("err", e.Err))
		}
		if e.Held != 0 {
			attrs = append(attrs, slog.Duration("held", e.Held))
		}
		if e.Kind == lock.EventLost {
			attrs = append(attrs, slog.Bool("expired", e.Expired))
		}
		log.LogAttrs(e.Context, level, string(e.Kind), attrs...)
	})

	lease, _ := locker.TryAcquire(ctx, "prices", time.Minute)
	_, _ = locker.TryAcquire(ctx, "prices", time.Minute)
	_ = lease.Extend(ctx, time.Minute)
	_ = lease.Release(ctx)

	lease, _ = lock.Acquire(ctx, locker, "prices", time.Second, nil)
	time.Sleep(time.Until(lease.Expiry())) // nobody renews it
	_ = lease.Release(ctx)
	// Output:
	// level=INFO msg=attempt key=prices token=1
	// level=DEBUG msg=attempt key=prices holder="this process"
	// level=INFO msg=extend key=prices token=1
	// level=INFO msg=release key=prices token=1
	// level=INFO msg=attempt key=prices token=2
	// level=INFO msg=wait key=prices token=2
	// level=WARN msg=lost key=prices token=2 err="lock: release \"prices\" (token 2): lock: lease lost: expired" expired=true
	// level=WARN msg=release key=prices token=2 err="lock: release \"prices\" (token 2): lock: lease lost: expired"
}
