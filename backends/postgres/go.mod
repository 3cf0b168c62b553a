module github.com/tonsurance/lockkeeper/backends/postgres

go 1.26.0

require (
	github.com/jackc/pgx/v5 v5.12.0
	github.com/stretchr/testify v1.12.1
	github.com/tonsurance/lockkeeper v0.1.0
)
