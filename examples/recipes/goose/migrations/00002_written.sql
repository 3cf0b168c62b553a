-- +goose Up
ALTER TABLE prices ADD COLUMN written TEXT;

-- +goose Down
ALTER TABLE prices DROP COLUMN written;
