//go:build !linux

package main

import "errors"

func record() ([]event, error) { return nil, errors.New("-record needs the terminals of Linux") }
