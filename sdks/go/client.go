// Package helixflow is the client of HelixFlow's API: chat completions, completions, embeddings, models, files,
// batches, usage and webhooks.
//
//	client := helixflow.NewClient("your-api-key")
//	response, err := client.CreateChatCompletion(ctx, helixflow.ChatCompletionRequest{
//		Model:    "gpt-3.5-turbo",
//		Messages: []helixflow.Message{{Role: "user", Content: "Hello, world!"}},
//	})
//
// A Client may be used by many goroutines at once. Calls are tried again where that is safe and useful, and carry an
// Idempotency-Key, so that none is billed twice. Every error is an *APIError underneath.
package helixflow

import (
	"context"
	"fmt"
	"math/rand"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Version of this module.
const Version = "1.1.0"

const (
	defaultBaseURL    = "https://api.helixflow.com/v1"
	defaultTimeout    = 600 * time.Second
	connectTimeout    = 5 * time.Second
	defaultMaxRetries = 2
)

// Client calls the API. Make one with NewClient.
type Client struct {
	Models   *ModelService
	Files    *FileService
	Batches  *BatchesService
	Batch    *BatchService
	Usage    *UsageService
	Requests *RequestService

	core *core
}

// core is what the services of a client share.
type core struct {
	key        secret
	baseURL    string
	headers    http.Header
	http       *http.Client
	timeout    time.Duration
	maxRetries int
	hook       func(context.Context, Attempt)
	cache      *cache

	// Seams of the tests.
	sleep  func(context.Context, time.Duration) error
	now    func() time.Time
	jitter func() float64 // in [0, 1)
}

// secret gives the key. As a function it stays out of everything that prints values.
type secret func() string

// Option is a setting of a client.
type Option func(*core)

// NewClient makes a client with this key, or that of HELIXFLOW_API_KEY if it is empty.
func NewClient(key string, options ...Option) *Client {
	if key = strings.TrimSpace(key); key == "" {
		key = strings.TrimSpace(os.Getenv("HELIXFLOW_API_KEY"))
	}
	baseURL := os.Getenv("HELIXFLOW_BASE_URL")
	if baseURL == "" {
		baseURL = defaultBaseURL
	}
	c := &core{
		key:        func() string { return key },
		headers:    http.Header{"User-Agent": {userAgent}, "Accept": {"application/json"}},
		http:       &http.Client{Transport: transport()},
		timeout:    defaultTimeout,
		maxRetries: defaultMaxRetries,
		sleep:      sleep,
		now:        time.Now,
		jitter:     jitter,
	}
	WithBaseURL(baseURL)(c)
	for _, option := range options {
		option(c)
	}
	return &Client{
		Models:   &ModelService{c},
		Files:    &FileService{c},
		Batches:  &BatchesService{c},
		Batch:    &BatchService{c},
		Usage:    &UsageService{c},
		Requests: &RequestService{c},
		core:     c,
	}
}

// WithBaseURL sets where the API is, such as http://127.0.0.1:8000/v1; else HELIXFLOW_BASE_URL says so.
func WithBaseURL(baseURL string) Option {
	return func(c *core) { c.baseURL = strings.TrimRight(strings.TrimSpace(baseURL), "/") }
}

// WithHTTPClient sends requests through this client: for proxies, certificates, or tests. Redirects are not followed.
func WithHTTPClient(client *http.Client) Option {
	return func(c *core) {
		own := *client
		c.http = &own
	}
}

// WithMaxRetries sets how often a call is tried again: 2 if not set, 0 for never.
func WithMaxRetries(count int) Option {
	return func(c *core) { c.maxRetries = count }
}

// WithTimeout bounds each try, from connecting to the last byte of the answer, and for streams each wait for the next
// bytes: 600 s if not set, 0 for no bound. A context bounds the whole call, its waits included.
func WithTimeout(timeout time.Duration) Option {
	return func(c *core) { c.timeout = timeout }
}

// WithHeader sends this header with every request.
func WithHeader(name, value string) Option {
	return func(c *core) { c.headers.Set(name, value) }
}

// WithHook has every try told to hook after it has ended, and every answer from the cache, for logs and metrics. It is
// called by the goroutine that made the call, for streams by the one that ended it. It is never told bodies, headers or
// the key.
func WithHook(hook func(context.Context, Attempt)) Option {
	return func(c *core) { c.hook = hook }
}

// WithCache keeps successful answers to CreateChatCompletion, CreateCompletion and CreateEmbeddings in memory, at most
// so many and so long, and gives them again for an equal request. Streams are not kept. Off if not set; NoCache leaves
// it out for a call.
func WithCache(maxEntries int, ttl time.Duration) Option {
	return func(c *core) { c.cache = newCache(maxEntries, ttl) }
}

// String shows where the client calls, never its key.
func (c *Client) String() string {
	return fmt.Sprintf("helixflow.Client(%s)", redactURL(c.core.baseURL))
}

// GoString is String: %#v would show what is inside.
func (c *Client) GoString() string { return c.String() }

// Attempt is one try of a call, as hooks are told.
type Attempt struct {
	Method    string
	Path      string // of the address: /v1/chat/completions
	Number    int    // from 1; 0 from the cache
	Status    int    // 0 without an answer
	RequestID string
	Model     string        // that was asked for
	Usage     *Usage        // of a success that reported some
	Duration  time.Duration // until the last byte, for streams too
	Err       error         // nil if it succeeded
	RetryIn   time.Duration // until the next try
	WillRetry bool          // else the call has ended
	Cached    bool          // nobody was asked
}

// CallOption is a setting of one call.
type CallOption func(*settings)

type settings struct {
	idempotencyKey string
	headers        http.Header
	timeout        time.Duration
	maxRetries     int
	noCache        bool
}

func (c *core) settings(options []CallOption) *settings {
	set := &settings{headers: http.Header{}, timeout: c.timeout, maxRetries: c.maxRetries}
	for _, option := range options {
		option(set)
	}
	return set
}

// IdempotencyKey names the call, so that asking again within 24 hours gives the same answer and is not billed again.
// Without it each call has one of its own making, the same for all its tries.
func IdempotencyKey(key string) CallOption {
	return func(s *settings) { s.idempotencyKey = key }
}

// Header goes with the requests of this call.
func Header(name, value string) CallOption {
	return func(s *settings) { s.headers.Set(name, value) }
}

// Timeout is WithTimeout for this call.
func Timeout(timeout time.Duration) CallOption {
	return func(s *settings) { s.timeout = timeout }
}

// MaxRetries is WithMaxRetries for this call.
func MaxRetries(count int) CallOption {
	return func(s *settings) { s.maxRetries = count }
}

// NoCache leaves the cache of WithCache out of this call.
func NoCache() CallOption {
	return func(s *settings) { s.noCache = true }
}

// Ptr is a pointer to value, for optional parameters: Temperature: helixflow.Ptr(0.0).
func Ptr[T any](value T) *T { return &value }

var userAgent = fmt.Sprintf("helixflow-go/%s (%s; %s/%s)", Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)

var (
	transportOnce   sync.Once
	sharedTransport *http.Transport
)

// transport is shared by the clients of a program, and with it the connections.
func transport() *http.Transport {
	transportOnce.Do(func() {
		sharedTransport = &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout:   connectTimeout,
			ForceAttemptHTTP2:     true,
			MaxIdleConns:          200,
			MaxIdleConnsPerHost:   100,
			IdleConnTimeout:       60 * time.Second,
			ExpectContinueTimeout: time.Second,
		}
	})
	return sharedTransport
}

func sleep(ctx context.Context, duration time.Duration) error {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

var (
	jitterMutex  sync.Mutex
	jitterSource = rand.New(rand.NewSource(time.Now().UnixNano())) // before Go 1.20 the shared one isn't seeded
)

func jitter() float64 {
	jitterMutex.Lock()
	defer jitterMutex.Unlock()
	return jitterSource.Float64()
}

func redactURL(text string) string {
	if parsed, err := url.Parse(text); err == nil {
		return parsed.Redacted()
	}
	return "?"
}
