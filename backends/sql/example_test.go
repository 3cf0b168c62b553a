package sql_test

import (
	"context"
	stdsql "database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/tonsurance/lockkeeper/backends/sql"
)

// away is a server that can't be reached.
type away struct{}

func (away) Connect(context.Context) (driver.Conn, error) { return nil, errors.New("no route") }
func (away) Driver() driver.Driver                        { return nil }

// What a user runs who may make tables.
func ExampleStore_CreateStatement() {
	db := stdsql.OpenDB(away{}) // a driver's
	defer db.Close()
	store, err := sql.NewStore(db, "ops.locks", sql.Dialect{
		Name:   "example",
		Create: "CREATE TABLE {table} (name BLOB PRIMARY KEY, version TEXT, record BLOB, stamp BIGINT, clock TEXT)",
		Now:    "now_us()",
		Clock:  "server_id()",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(store.CreateStatement())
	// Output:
	// CREATE TABLE ops.locks (name BLOB PRIMARY KEY, version TEXT, record BLOB, stamp BIGINT, clock TEXT)
}
