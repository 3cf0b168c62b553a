module github.com/tonsurance/lockkeeper/backends/etcd

go 1.26.0

require (
	github.com/stretchr/testify v1.12.1
	github.com/tonsurance/lockkeeper v0.1.0
	go.etcd.io/etcd/api/v3 v3.6.16
	go.etcd.io/etcd/client/v3 v3.6.16
	go.uber.org/zap v1.27.1
	google.golang.org/grpc v1.75.1
)
