package api

import (
	"errors"
	"io"
	"net/http"
)

const (
	maxBody   = 1 << 20               // of a request
	maxBackup = 64 << 20              // octets
	maxCopy   = maxBackup/3*4 + 1<<10 // of a request with a backup, which JSON carries in base64
)

// read returns the JSON of a request. What is wrong with it is a *Refusal.
func read(r *http.Request, limit int64) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, limit))
	if errors.As(err, new(*http.MaxBytesError)) {
		return nil, Refuse(http.StatusRequestEntityTooLarge, "the request's body is larger than %d bytes; expected at most that", limit)
	}
	if err != nil {
		return nil, Refuse(http.StatusBadRequest, "read the request: %w", err)
	}
	return b, nil
}

// bare refuses a body where none belongs.
func bare(r *http.Request) error {
	if n, _ := io.ReadFull(r.Body, make([]byte, 1)); n > 0 {
		return Refuse(http.StatusBadRequest, "%s %s has a body; expected none", r.Method, r.URL.Path)
	}
	return nil
}
