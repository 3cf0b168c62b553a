-- +goose Up
CREATE TABLE prices (id TEXT PRIMARY KEY, value INTEGER NOT NULL, token INTEGER NOT NULL);

-- +goose Down
DROP TABLE prices;
