package nodeconn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// readPassword reads the first line of a file.
func readPassword(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("the password's file: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" {
		return "", fmt.Errorf("the password's file: %s: its first line is empty", path)
	}
	return line, nil
}

// checkSecrets refuses a password that is given in two ways, a file that can't be read, and
// what is for Sentinels where there are none.
func (u *URL) checkSecrets() error {
	_, has := u.User.Password()
	switch file := u.query.Get("password_file"); {
	case !u.query.Has("password_file"):
	case has:
		return errors.New("a password and a password_file, want one of them")
	case file == "":
		return errors.New("password_file is empty, want a path")
	default:
		if _, err := readPassword(file); err != nil {
			return err
		}
	}
	for _, name := range []string{"sentinel_password_file", "sentinel_password", "sentinel_user", "sentinel_tls"} {
		if u.query.Has(name) && !u.query.Has("master_set") {
			return fmt.Errorf("%s without master_set=name", name)
		}
	}
	switch file := u.query.Get("sentinel_password_file"); {
	case !u.query.Has("sentinel_password_file"):
	case u.query.Has("sentinel_password"):
		return errors.New("sentinel_password and sentinel_password_file, want one of them")
	case file == "":
		return errors.New("sentinel_password_file is empty, want a path")
	default:
		if _, err := readPassword(file); err != nil {
			return err
		}
	}
	switch u.query.Get("sentinel_tls") {
	case "", "true", "false":
		return nil
	}
	return errors.New("sentinel_tls is neither true nor false")
}

// login is how a connection to a server gets its credentials.
func (u *URL) login(o *Options) login {
	user, file, node := u.User.Username(), u.query.Get("password_file"), u.Name()
	password, has := u.User.Password()
	return func(ctx context.Context) (string, string, error) {
		switch {
		case file != "":
			password, err := readPassword(file)
			return user, password, err
		case has || o.Credentials == nil:
			return user, password, nil
		}
		name, password, err := o.Credentials(ctx, node)
		if name == "" {
			name = user
		}
		return name, password, err
	}
}

func (u *URL) sentinelLogin() login {
	user, password, file := u.query.Get("sentinel_user"), u.query.Get("sentinel_password"), u.query.Get("sentinel_password_file")
	return func(context.Context) (string, string, error) {
		if file == "" {
			return user, password, nil
		}
		password, err := readPassword(file)
		return user, password, err
	}
}
