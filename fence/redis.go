package fence

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"

	"github.com/redis/rueidis"

	"github.com/tonsurance/lockkeeper/lock"
)

//go:embed redis.lua
var redisScript string

var redisLua = rueidis.NewLuaScript(redisScript)

// RedisPrefix is what precedes a key in the name of its largest token.
const RedisPrefix = "fence:"

// Redis keeps the largest token of each key in the Redis or Valkey server that has the
// data, and writes by a script. The token's key never expires; a server that evicts keys
// without a ttl, or that fails over to a replica which has not received it, forgets it.
// It is safe for concurrent use; the client stays the caller's.
type Redis struct{ client rueidis.Client }

// NewRedis makes one. It sends nothing.
func NewRedis(client rueidis.Client) (*Redis, error) {
	if client == nil {
		return nil, fmt.Errorf("fence: %w: the client is nil", lock.ErrInvalid)
	}
	return &Redis{client}, nil
}

// Do runs commands, each a list of words such as {"SET", "price", "5"}, in one atomic step
// with the check of token; or none of them, with an error that matches [ErrStale]. The
// replies are in the commands' order, an empty string where Redis has none (nil). keys are
// those that the commands use; on a Redis Cluster they must be of the hash slot of the
// token, whose name is RedisPrefix and key: give both a hash tag in braces, or name them
// after it, such as "price:{fence:feed}" for the key feed.
//
// A command that fails ends the list; those before it have been applied, as in every
// script. Other errors are the client's. After one whose reply was lost the write may have
// been applied; Do it again with the same token, if the commands can bear it.
func (r *Redis) Do(ctx context.Context, key string, token uint64, keys []string, commands ...[]string) ([]rueidis.RedisMessage, error) {
	if err := checkCall(ctx, key, token); err != nil {
		return nil, err
	}
	args := []string{strconv.FormatUint(token, 10)}
	for i, words := range commands {
		if len(words) == 0 {
			return nil, fmt.Errorf("fence: %w: command %d is empty", lock.ErrInvalid, i)
		}
		args = append(append(args, strconv.Itoa(len(words))), words...)
	}
	reply, err := r.exec(ctx, append([]string{RedisPrefix + key}, keys...), args)
	if err != nil {
		return nil, fmt.Errorf("fence: %q: %w", key, err)
	}
	if len(reply) != 2 {
		return nil, fmt.Errorf("fence: %q: the reply has %d parts, want 2", key, len(reply))
	}
	admitted, err := reply[0].AsInt64()
	if err != nil {
		return nil, fmt.Errorf("fence: %q: %w", key, err)
	}
	if admitted == 0 {
		latest, _ := reply[1].AsUint64() // for the message alone
		return nil, &StaleError{key, token, latest}
	}
	replies, err := reply[1].ToArray()
	if err != nil {
		return nil, fmt.Errorf("fence: %q: %w", key, err)
	}
	return replies, nil
}

// exec runs the script. The client of a cluster panics where keys have several slots.
func (r *Redis) exec(ctx context.Context, keys, args []string) (reply []rueidis.RedisMessage, err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case "multi key command with different key slots are not allowed":
			err = fmt.Errorf("%w: the keys %q are of several hash slots, want one", lock.ErrInvalid, keys)
		default:
			panic(p)
		}
	}()
	return redisLua.Exec(ctx, r.client, keys, args).ToArray()
}
