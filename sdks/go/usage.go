package helixflow

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// UsageService: client.Usage.
type UsageService struct{ core *core }

// RequestService: client.Requests.
type RequestService struct{ core *core }

// UsageReport is where the organization stands, now and this month. Costs are decimal texts.
type UsageReport struct {
	ResponseMeta `json:"-"`
	Object       string      `json:"object"`
	Source       string      `json:"source"` // live, ledger
	Period       Period      `json:"period"`
	Minute       LimitState  `json:"minute"`
	Month        LimitState  `json:"month"`
	Parallel     *LimitState `json:"parallel"` // nil without a cap
	Budget       *Budget     `json:"budget"`   // nil without a cap
	Requests     int64       `json:"requests"`
	Tokens       TokenCounts `json:"tokens"`
	Cost         string      `json:"cost"`
	Currency     string      `json:"currency"`
	Keys         []KeyUsage  `json:"keys"`
}

// Period is a month, such as 2026-11, and its bounds.
type Period struct {
	Month    string `json:"month"`
	StartsAt string `json:"starts_at"`
	ResetsAt string `json:"resets_at"`
}

// LimitState is a limit and what is left of it. Used and Remaining are nil while they can't be known.
type LimitState struct {
	Limit     int64  `json:"limit"`
	Used      *int64 `json:"used"`
	Remaining *int64 `json:"remaining"`
	ResetsAt  string `json:"resets_at,omitempty"`
}

// Budget of the month, in the currency of the report.
type Budget struct {
	Limit     string `json:"limit"`
	Spent     string `json:"spent"`
	Remaining string `json:"remaining"`
	ResetsAt  string `json:"resets_at"`
}

// TokenCounts; cached ones are part of the prompt's.
type TokenCounts struct {
	Prompt     int64            `json:"prompt"`
	Cached     int64            `json:"cached"`
	Completion int64            `json:"completion"`
	Total      int64            `json:"total"`
	ByClass    map[string]int64 `json:"by_class,omitempty"` // of a receipt
}

// KeyName is how a key is told from others.
type KeyName struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Hint string `json:"hint"`
}

// KeyUsage is what one key used, and its own limits.
type KeyUsage struct {
	KeyName
	Environment    string      `json:"environment"`
	Status         string      `json:"status"`
	UsedThisMinute *int64      `json:"used_this_minute"`
	Used           int64       `json:"used"`
	Requests       int64       `json:"requests"`
	Tokens         TokenCounts `json:"tokens"`
	Cost           string      `json:"cost"`
	Limits         KeyLimits   `json:"limits"`
}

// KeyLimits are nil where the key has none of its own.
type KeyLimits struct {
	RequestsPerMinute *int64  `json:"requests_per_minute"`
	RequestsPerMonth  *int64  `json:"requests_per_month"`
	MonthlyBudget     *string `json:"monthly_budget"`
}

// TimeseriesQuery chooses what to see. What is empty is not asked for: the last 30 days, by day, all together.
type TimeseriesQuery struct {
	Start, End time.Time // End is not in it
	Bucket     string    // hour, day, month
	GroupBy    string    // none, key, environment, model, deployment, status
	APIKey     string    // only this key's id
	Model      string    // only this model
}

// Timeseries is usage over time: a series for each group, the busiest first.
type Timeseries struct {
	ResponseMeta `json:"-"`
	Object       string   `json:"object"`
	Start        string   `json:"start"`
	End          string   `json:"end"`
	Bucket       string   `json:"bucket"`
	GroupBy      string   `json:"group_by"`
	Currency     string   `json:"currency"`
	Series       []Series `json:"series"`
}

// Series is one group's. Of the names only that of GroupBy is there.
type Series struct {
	Key         *KeyName      `json:"key,omitempty"`
	Environment string        `json:"environment,omitempty"`
	Model       string        `json:"model,omitempty"`
	Deployment  string        `json:"deployment,omitempty"`
	Status      string        `json:"status,omitempty"`
	Totals      UsageSums     `json:"totals"`
	Points      []SeriesPoint `json:"points"`
}

// SeriesPoint is a bucket, and when it begins.
type SeriesPoint struct {
	At string `json:"at"`
	UsageSums
}

// UsageSums of some time. By status, only Requests and Failures are known.
type UsageSums struct {
	Requests   int64        `json:"requests"`
	Failures   Failures     `json:"failures"`
	Tokens     *TokenCounts `json:"tokens"`
	Cost       *string      `json:"cost"`
	DurationMS *Percentiles `json:"duration_ms"`
	FirstToken *Percentiles `json:"first_token_ms"`
}

// Failures by the code of their error.
type Failures struct {
	Total  int64            `json:"total"`
	ByCode map[string]int64 `json:"by_code"`
}

// Percentiles in milliseconds.
type Percentiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

// RequestQuery searches the log. What is empty is not asked for.
type RequestQuery struct {
	Limit        int    // 1 to 100, 20 if 0
	Cursor       string // NextCursor of the page before
	APIKey       string
	Model        string
	EndUser      string
	Status       string // success, failed, or a status such as 503
	ErrorCode    string
	Since, Until time.Time // Until is not in it
}

// RequestList is a page of the log, newest first.
type RequestList struct {
	ResponseMeta `json:"-"`
	Data         []RequestRecord
	NextCursor   string // empty on the last page
}

// UnmarshalJSON takes the cursor from the envelope.
func (l *RequestList) UnmarshalJSON(data []byte) error {
	var wire struct {
		Data []RequestRecord `json:"data"`
		Meta struct {
			NextCursor *string `json:"next_cursor"`
		} `json:"meta"`
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	l.Data, l.NextCursor = wire.Data, ""
	if wire.Meta.NextCursor != nil {
		l.NextCursor = *wire.Meta.NextCursor
	}
	return nil
}

// RequestRecord is what is kept of a request. The last fields are of its receipt, which Retrieve gives.
type RequestRecord struct {
	ResponseMeta  `json:"-"`
	ID            string      `json:"id"`
	Object        string      `json:"object"`
	CompletionID  string      `json:"completion_id"`
	StartedAt     string      `json:"started_at"`
	APIKey        *KeyName    `json:"api_key"`
	UserID        string      `json:"user_id"`
	EndUser       string      `json:"end_user"`
	Operation     string      `json:"operation"`
	Model         string      `json:"model"`
	FallbackModel string      `json:"fallback_model"`
	Deployment    string      `json:"deployment"`
	Status        int         `json:"status"`
	ErrorCode     string      `json:"error_code"`
	Streamed      bool        `json:"streamed"`
	Tokens        TokenCounts `json:"tokens"`
	UsageSource   string      `json:"usage_source"` // provider, estimated, none
	Cost          string      `json:"cost"`
	Currency      string      `json:"currency"`
	DurationMS    *float64    `json:"duration_ms"`
	FirstTokenMS  *float64    `json:"first_token_ms"`

	Attempts    []UpstreamAttempt `json:"attempts,omitempty"`
	QuotaUnits  *int              `json:"quota_units,omitempty"`
	Price       *Price            `json:"price,omitempty"`
	CostByClass map[string]string `json:"cost_by_class,omitempty"`
	SettledBy   string            `json:"settled_by,omitempty"`
	RecordedAt  string            `json:"recorded_at,omitempty"`
}

// UpstreamAttempt is a deployment that was tried.
type UpstreamAttempt struct {
	Deployment string  `json:"deployment"`
	Outcome    string  `json:"outcome"`
	DurationMS float64 `json:"duration_ms"`
}

// Price is the version that a cost was computed from.
type Price struct {
	ID               string            `json:"id"`
	StartsAt         string            `json:"starts_at"`
	PerMillionTokens map[string]string `json:"per_million_tokens"`
}

// Retrieve gives the current minute and month beside their limits.
func (s *UsageService) Retrieve(ctx context.Context, options ...CallOption) (*UsageReport, error) {
	return enveloped[UsageReport](ctx, s.core, "/usage", nil, options)
}

// Timeseries gives usage over time.
func (s *UsageService) Timeseries(ctx context.Context, query TimeseriesQuery, options ...CallOption) (*Timeseries, error) {
	values := url.Values{}
	setTime(values, "start", query.Start)
	setTime(values, "end", query.End)
	set(values, "bucket", query.Bucket)
	set(values, "group_by", query.GroupBy)
	set(values, "api_key", query.APIKey)
	set(values, "model", query.Model)
	return enveloped[Timeseries](ctx, s.core, "/usage/timeseries", values, options)
}

// List gives a page of the requests that were made.
func (s *RequestService) List(ctx context.Context, query RequestQuery, options ...CallOption) (*RequestList, error) {
	values := url.Values{}
	if query.Limit != 0 {
		values.Set("limit", strconv.Itoa(query.Limit))
	}
	set(values, "cursor", query.Cursor)
	set(values, "api_key", query.APIKey)
	set(values, "model", query.Model)
	set(values, "end_user", query.EndUser)
	set(values, "status", query.Status)
	set(values, "error_code", query.ErrorCode)
	setTime(values, "since", query.Since)
	setTime(values, "until", query.Until)
	return fetch[RequestList](ctx, s.core, get("/requests", values), options)
}

// Retrieve gives the receipt of one request, by its id or its completion's.
func (s *RequestService) Retrieve(ctx context.Context, id string, options ...CallOption) (*RequestRecord, error) {
	named, err := segment(id)
	if err != nil {
		return nil, err
	}
	return enveloped[RequestRecord](ctx, s.core, "/requests/"+named, nil, options)
}

// enveloped asks for something that is in the data of the answer.
func enveloped[T any](ctx context.Context, c *core, path string, query url.Values, options []CallOption) (*T, error) {
	found, err := fetch[envelope](ctx, c, get(path, query), options)
	if err != nil {
		return nil, err
	}
	out := new(T)
	answer := answer{http.StatusOK, found.Header, found.Data}
	return out, answer.read(out)
}

type envelope struct {
	ResponseMeta `json:"-"`
	Data         json.RawMessage `json:"data"`
}

func setTime(values url.Values, name string, moment time.Time) {
	if !moment.IsZero() {
		values.Set(name, moment.Format(time.RFC3339Nano))
	}
}
