package helixflow

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	firstBackoff  = 500 * time.Millisecond
	longestWait   = 60 * time.Second // a longer Retry-After is the caller's to wait for
	mostBackoff   = 8 * time.Second
	jitterPortion = 0.25
)

// retryWait says whether a try that failed may be made again, and after what time. failures is from 1.
func (c *core) retryWait(err error, failures int) (time.Duration, bool) {
	var api *APIError
	if !errors.As(err, &api) || !mayRetry(err, api) {
		return 0, false
	}
	if wait, told := retryAfter(api.Header, c.now()); told {
		return wait, wait <= longestWait
	}
	wait := math.Min(float64(firstBackoff)*math.Pow(2, float64(failures-1)), float64(mostBackoff))
	return time.Duration(wait * (1 - jitterPortion*c.jitter())), true
}

func mayRetry(err error, api *APIError) bool {
	switch strings.ToLower(api.Header.Get("X-Should-Retry")) {
	case "true":
		return true
	case "false":
		return false
	}
	var connection *APIConnectionError
	if errors.As(err, &connection) {
		return !errors.Is(err, context.Canceled)
	}
	return api.Status == 408 || api.Status == 409 || api.Status == 429 || api.Status >= 500
}

// retryAfter reads the header: seconds, or a date.
func retryAfter(header http.Header, now time.Time) (time.Duration, bool) {
	text := strings.TrimSpace(header.Get("Retry-After"))
	if text == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		if math.IsNaN(seconds) || seconds < 0 {
			return 0, false
		}
		return time.Duration(math.Min(seconds, math.MaxInt32) * float64(time.Second)), true
	}
	date, err := http.ParseTime(text)
	if err != nil {
		return 0, false
	}
	if wait := date.Sub(now); wait > 0 {
		return wait, true
	}
	return 0, true
}

// newIdempotencyKey begins with auto-: the API keeps answers to such a key for minutes, not for a day.
func newIdempotencyKey() string {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		panic("helixflow: the system has no random numbers: " + err.Error())
	}
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("auto-%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
