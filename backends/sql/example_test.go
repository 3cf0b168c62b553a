package sql_test

import (
	"database/sql"
	"fmt"

	rows "github.com/tonsurance/lockkeeper/backends/sql"
)

// The statement that makes the table, for a server where the program's user may not.
func ExampleStore_CreateStatement() {
	store, err := rows.NewStore(new(sql.DB), "app.locks", rows.Dialect{
		Name:   "mydb",
		Create: "CREATE TABLE IF NOT EXISTS {table} (name VARBINARY(700) PRIMARY KEY, version TEXT, record BLOB, stamp BIGINT, clock TEXT)",
		Now:    "unix_microseconds()",
		Clock:  "server_name()",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(store.CreateStatement())
	// Output:
	// CREATE TABLE IF NOT EXISTS app.locks (name VARBINARY(700) PRIMARY KEY, version TEXT, record BLOB, stamp BIGINT, clock TEXT)
}
