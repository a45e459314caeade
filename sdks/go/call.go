package helixflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// operation is one call of the API, before it is made.
type operation struct {
	method string
	path   string // below the base URL, ids escaped
	query  url.Values
	body   *payload
	model  string // for the hook

	idempotent bool // carries an Idempotency-Key
	cacheable  bool
	open       bool // needs no key
	out        any  // where the answer's JSON goes
}

// payload is a body that can be sent more than once.
type payload struct {
	contentType string
	size        int64
	open        func() io.Reader
}

// ResponseMeta is what every answer has besides its documented fields.
type ResponseMeta struct {
	RequestID string
	Header    http.Header     // X-RateLimit-Remaining and others
	Raw       json.RawMessage // the answer as it came, fields that this version doesn't know included
}

func (m *ResponseMeta) meta() *ResponseMeta { return m }

type described interface{ meta() *ResponseMeta }

// reporting is an answer that may say what was used.
type reporting interface{ usage() *Usage }

// call makes an operation and reads its answer into operation.out.
func (c *core) call(ctx context.Context, op *operation, options []CallOption) error {
	set := c.settings(options)
	cached := op.cacheable && c.cache != nil && !set.noCache
	var key cacheKey
	if cached {
		key = keyOf(op)
		if kept, ok := c.cache.get(key, c.now()); ok {
			return c.recall(ctx, op, set, kept)
		}
	}
	return c.try(ctx, op, set, func(try *try) error {
		answer, err := try.answer()
		if err != nil {
			return err
		}
		if err := answer.read(op.out); err != nil {
			return err
		}
		if cached {
			c.cache.put(key, answer, c.now())
		}
		if report, ok := op.out.(reporting); ok {
			try.told.Usage = report.usage()
		}
		try.end(nil)
		return nil
	})
}

// recall gives an answer of the cache, and tells of it as of a try.
func (c *core) recall(ctx context.Context, op *operation, set *settings, kept *answer) error {
	try := c.newTry(ctx, op, set, 0)
	try.told.Cached, try.told.Status = true, kept.status
	try.told.RequestID = kept.header.Get("X-Request-ID")
	if request, err := try.newRequest(); err == nil {
		try.told.Path = request.URL.Path
	}
	err := kept.read(op.out)
	try.end(err)
	return err
}

// try sends an operation until take has taken an answer, or it can't be sent again. take ends a try that it took.
func (c *core) try(ctx context.Context, op *operation, set *settings, take func(*try) error) error {
	if set.idempotencyKey == "" && op.idempotent && set.headers.Get("Idempotency-Key") == "" {
		set.idempotencyKey = newIdempotencyKey()
	}
	if !op.open && c.key() == "" && c.headers.Get("Authorization") == "" && set.headers.Get("Authorization") == "" {
		return typed(&APIError{
			Code:    "authentication_failed",
			Message: "There is no API key: give one to NewClient, or set HELIXFLOW_API_KEY.",
		})
	}
	for number := 1; ; number++ {
		try := c.newTry(ctx, op, set, number)
		err := try.send()
		if err == nil {
			err = take(try)
		}
		if err == nil {
			return nil
		}
		wait, again := c.retryWait(err, number)
		again = again && number <= set.maxRetries && ctx.Err() == nil
		if again {
			try.told.RetryIn, try.told.WillRetry = wait, true
		}
		try.end(err)
		if !again {
			return err
		}
		if c.sleep(ctx, wait) != nil {
			return c.connectionError(ctx, ctx.Err(), false, set.timeout)
		}
	}
}

// try is one request and its answer, with a clock that ends it.
type try struct {
	core     *core
	op       *operation
	set      *settings
	ctx      context.Context // the caller's
	cancel   context.CancelFunc
	request  context.Context
	clock    *time.Timer // nil without a timeout
	expired  atomic.Bool
	started  time.Time
	told     Attempt
	response *http.Response
	reported bool
}

func (c *core) newTry(ctx context.Context, op *operation, set *settings, number int) *try {
	t := &try{core: c, op: op, set: set, ctx: ctx, started: c.now()}
	t.told = Attempt{Method: op.method, Number: number, Model: op.model}
	t.request, t.cancel = context.WithCancel(ctx)
	if set.timeout > 0 {
		t.clock = time.AfterFunc(set.timeout, func() {
			t.expired.Store(true)
			t.cancel()
		})
	}
	return t
}

// send leaves the response of a success in t, its body unread.
func (t *try) send() error {
	request, err := t.newRequest()
	if err != nil {
		return &APIError{Message: "The request can't be made: " + withoutURL(err).Error()}
	}
	t.told.Path = request.URL.Path
	client := *t.core.http
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.Do(request)
	if err != nil {
		return t.failed(err)
	}
	t.response = response
	t.told.Status = response.StatusCode
	t.told.RequestID = response.Header.Get("X-Request-ID")
	if response.StatusCode >= 200 && response.StatusCode < 300 {
		return nil
	}
	body, _ := io.ReadAll(response.Body) // if it is cut, the status says enough
	return t.core.statusError(response.StatusCode, response.Header, body)
}

func (t *try) newRequest() (*http.Request, error) {
	address := t.core.baseURL + t.op.path
	if len(t.op.query) > 0 {
		address += "?" + t.op.query.Encode()
	}
	var body io.Reader
	if t.op.body != nil {
		body = t.op.body.open()
	}
	request, err := http.NewRequestWithContext(t.request, t.op.method, address, body)
	if err != nil {
		return nil, err
	}
	header := t.core.headers.Clone()
	if key := t.core.key(); key != "" && header.Get("Authorization") == "" {
		header.Set("Authorization", "Bearer "+key)
	}
	if t.op.body != nil {
		request.ContentLength = t.op.body.size
		header.Set("Content-Type", t.op.body.contentType)
	}
	for name, values := range t.set.headers {
		header[name] = values
	}
	if t.set.idempotencyKey != "" {
		header.Set("Idempotency-Key", t.set.idempotencyKey)
	}
	request.Header = header
	return request, nil
}

// answer reads the whole body of a success.
func (t *try) answer() (*answer, error) {
	body, err := io.ReadAll(t.response.Body)
	if err != nil {
		return nil, t.failed(err)
	}
	return &answer{t.response.StatusCode, t.response.Header, body}, nil
}

// end tells the hook, once, and frees the connection.
func (t *try) end(err error) {
	t.tell(err)
	t.release()
}

func (t *try) tell(err error) {
	if t.reported {
		return
	}
	t.reported = true
	if hook := t.core.hook; hook != nil {
		t.told.Duration = t.core.now().Sub(t.started)
		t.told.Err = err
		hook(t.ctx, t.told)
	}
}

// release closes the connection, unless the answer was read to its end. It may be called again, from anywhere.
func (t *try) release() {
	t.stopClock()
	t.cancel()
	if t.response != nil {
		t.response.Body.Close()
	}
}

// startClock gives the server the whole timeout again.
func (t *try) startClock() {
	if t.clock != nil {
		t.clock.Reset(t.set.timeout)
	}
}

func (t *try) stopClock() {
	if t.clock != nil {
		t.clock.Stop()
	}
}

func (t *try) failed(err error) error {
	found := t.core.connectionError(t.ctx, err, t.expired.Load(), t.set.timeout)
	if t.response != nil {
		var api *APIError
		errors.As(found, &api)
		api.RequestID = t.told.RequestID
	}
	return found
}

// connectionError says why there is no answer: the caller left, time is up, or the network failed.
func (c *core) connectionError(ctx context.Context, err error, expired bool, timeout time.Duration) error {
	var timed interface{ Timeout() bool }
	late := false
	message := "The connection failed: "
	switch ended := ctx.Err(); {
	case errors.Is(ended, context.Canceled):
		err, message = ended, "The call was given up: "
	case ended != nil:
		err, message, late = ended, "The call took too long: ", true
	case expired:
		err, message, late = context.DeadlineExceeded, fmt.Sprintf("No answer within %s: ", timeout), true
	default:
		err = withoutURL(err)
		late = errors.As(err, &timed) && timed.Timeout()
	}
	text := c.redact([]byte(message + err.Error()))
	found := &APIConnectionError{&APIError{Message: string(text)}, err}
	if late {
		return &APITimeoutError{found}
	}
	return found
}

// withoutURL leaves out the address, which may hold a password.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// answer is one that was read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// read puts the answer where it belongs: bytes as they are, all else from JSON.
func (a *answer) read(out any) error {
	if content, ok := out.(*[]byte); ok {
		*content = a.body
		return nil
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		message := "The answer is not the JSON of this call: " + err.Error()
		id := a.header.Get("X-Request-ID")
		return &APIError{Message: message, Status: a.status, RequestID: id, Header: a.header, Body: a.body}
	}
	if found, ok := out.(described); ok {
		*found.meta() = ResponseMeta{a.header.Get("X-Request-ID"), a.header, a.body}
	}
	return nil
}

// segment is an id as part of a path. Without one the address would be another one's.
func segment(id string) (string, error) {
	if strings.Trim(id, ".") == "" {
		return "", typed(&APIError{Code: "invalid_request", Message: fmt.Sprintf("%q is no id.", id)})
	}
	return url.PathEscape(id), nil
}
