package helixflow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// APIError is what every error of a call is underneath: errors.As finds it in all of them.
//
//	APIError                          also a 200 that makes no sense, and a batch that failed as a whole
//	├── APIConnectionError            no answer, or one that was cut
//	│   ├── APITimeoutError
//	│   └── StreamCutError            a stream that ended without [DONE]
//	└── APIStatusError                any other status
//	    ├── InvalidRequestError       400, 405, 413, 415, 422
//	    │   └── NotFoundError         404
//	    │       └── ModelNotFoundError
//	    ├── AuthenticationError       401
//	    │   └── InvalidAPIKeyError
//	    ├── PermissionDeniedError     403
//	    ├── RateLimitError            429
//	    │   └── InsufficientQuotaError
//	    └── ServerError               5xx
//	        ├── ServiceUnavailableError
//	        └── ServiceTimeoutError   the model did not answer in time
//
// errors.As finds an error by its own type and by each above it.
type APIError struct {
	Code       string // such as rate_limit_exceeded; empty if the answer had none
	Message    string
	Status     int // of HTTP; 0 without an answer, and for an error inside a stream
	RequestID  string
	Param      string // the field that is wrong
	Details    map[string]any
	RetryAfter time.Duration // 0 if the answer did not say
	Header     http.Header   // of the answer
	Body       []byte        // as it came
}

func (e *APIError) Error() string {
	text := "helixflow: " + e.Message
	var about []string
	if e.Status != 0 {
		about = append(about, strconv.Itoa(e.Status))
	}
	if e.Code != "" {
		about = append(about, e.Code)
	}
	if e.RequestID != "" {
		about = append(about, e.RequestID)
	}
	if len(about) > 0 {
		text += " (" + strings.Join(about, ", ") + ")"
	}
	return text
}

// APIConnectionError is a call without an answer, or with one that was cut. Err is why: context.Canceled if the
// context ended it.
type APIConnectionError struct {
	*APIError
	Err error
}

func (e *APIConnectionError) Unwrap() error { return e.Err }

// As finds the APIError, since Unwrap leads to Err.
func (e *APIConnectionError) As(target any) bool {
	if found, ok := target.(**APIError); ok {
		*found = e.APIError
		return true
	}
	return false
}

// APITimeoutError is a try, or a batch, that took too long.
type APITimeoutError struct{ *APIConnectionError }

func (e *APITimeoutError) Unwrap() error { return e.APIConnectionError }

// Timeout makes it one of net.Error's kind.
func (e *APITimeoutError) Timeout() bool { return true }

// StreamCutError is a stream that ended before its end was told.
type StreamCutError struct{ *APIConnectionError }

func (e *StreamCutError) Unwrap() error { return e.APIConnectionError }

// APIStatusError is an answer that says no.
type APIStatusError struct{ *APIError }

func (e *APIStatusError) Unwrap() error { return e.APIError }

// InvalidRequestError is malformed or out of range. Param and Details say where.
type InvalidRequestError struct{ *APIStatusError }

func (e *InvalidRequestError) Unwrap() error { return e.APIStatusError }

// NotFoundError is an address or object that is not there, or is another organization's.
type NotFoundError struct{ *InvalidRequestError }

func (e *NotFoundError) Unwrap() error { return e.InvalidRequestError }

// ModelNotFoundError is a model that does not exist or is not offered to the organization.
type ModelNotFoundError struct{ *NotFoundError }

func (e *ModelNotFoundError) Unwrap() error { return e.NotFoundError }

// AuthenticationError is a call without valid credentials.
type AuthenticationError struct{ *APIStatusError }

func (e *AuthenticationError) Unwrap() error { return e.APIStatusError }

// InvalidAPIKeyError is a key that is unknown, revoked or expired.
type InvalidAPIKeyError struct{ *AuthenticationError }

func (e *InvalidAPIKeyError) Unwrap() error { return e.AuthenticationError }

// PermissionDeniedError is something that the key is not allowed to do.
type PermissionDeniedError struct{ *APIStatusError }

func (e *PermissionDeniedError) Unwrap() error { return e.APIStatusError }

// RateLimitError is the limit of the minute; RetryAfter says when it ends.
type RateLimitError struct{ *APIStatusError }

func (e *RateLimitError) Unwrap() error { return e.APIStatusError }

// InsufficientQuotaError is the quota or budget of the month.
type InsufficientQuotaError struct{ *RateLimitError }

func (e *InsufficientQuotaError) Unwrap() error { return e.RateLimitError }

// ServerError is a failure on the other side.
type ServerError struct{ *APIStatusError }

func (e *ServerError) Unwrap() error { return e.APIStatusError }

// ServiceUnavailableError is a service or model that is down for now.
type ServiceUnavailableError struct{ *ServerError }

func (e *ServiceUnavailableError) Unwrap() error { return e.ServerError }

// ServiceTimeoutError is a model that did not answer in time.
type ServiceTimeoutError struct{ *ServerError }

func (e *ServiceTimeoutError) Unwrap() error { return e.ServerError }

// typed gives an error the type of its code, or of its status where there is no code or an unknown one.
func typed(base *APIError) error {
	status := &APIStatusError{base}
	kind := base.Code
	if !knownCodes[kind] {
		kind = codeOfStatus(base.Status)
	}
	switch kind {
	case "invalid_request":
		if base.Status == http.StatusNotFound {
			return &NotFoundError{&InvalidRequestError{status}}
		}
		return &InvalidRequestError{status}
	case "model_not_found":
		return &ModelNotFoundError{&NotFoundError{&InvalidRequestError{status}}}
	case "authentication_failed":
		return &AuthenticationError{status}
	case "invalid_api_key":
		return &InvalidAPIKeyError{&AuthenticationError{status}}
	case "authorization_failed":
		return &PermissionDeniedError{status}
	case "rate_limit_exceeded":
		return &RateLimitError{status}
	case "insufficient_quota":
		return &InsufficientQuotaError{&RateLimitError{status}}
	case "server_error":
		return &ServerError{status}
	case "service_unavailable":
		return &ServiceUnavailableError{&ServerError{status}}
	case "timeout":
		return &ServiceTimeoutError{&ServerError{status}}
	}
	if base.Status == 0 {
		return base
	}
	return status
}

var knownCodes = map[string]bool{
	"invalid_request": true, "model_not_found": true, "authentication_failed": true, "invalid_api_key": true,
	"authorization_failed": true, "rate_limit_exceeded": true, "insufficient_quota": true, "server_error": true,
	"service_unavailable": true, "timeout": true,
}

func codeOfStatus(status int) string {
	switch status {
	case 400, 404, 405, 413, 415, 422:
		return "invalid_request"
	case 401:
		return "authentication_failed"
	case 403:
		return "authorization_failed"
	case 429:
		return "rate_limit_exceeded"
	case 503:
		return "service_unavailable"
	case 504:
		return "timeout"
	}
	if status >= 500 {
		return "server_error"
	}
	return ""
}

// statusError is the error of an answer, whoever wrote its body: HelixFlow, or a proxy on the way.
func (c *core) statusError(status int, header http.Header, body []byte) error {
	body = c.redact(body)
	base := &APIError{Status: status, RequestID: header.Get("X-Request-ID"), Header: header, Body: body}
	base.RetryAfter, _ = retryAfter(header, c.now())
	if !base.read(body) {
		base.Message = strings.TrimSpace(fmt.Sprintf("HTTP %d %s", status, http.StatusText(status)))
		if status < 400 {
			base.Message += ": redirects are not followed, check the base URL"
		}
		if status == http.StatusNotFound {
			base.Message += ": check the base URL, it ends in /v1"
		}
		if text := excerpt(body); text != "" {
			base.Message += ": " + text
		}
	}
	return typed(base)
}

// read takes over an error body of the API's; false if it isn't one.
func (e *APIError) read(body []byte) bool {
	var found struct {
		Error *struct {
			Code      json.RawMessage `json:"code"` // others write numbers here
			Message   string          `json:"message"`
			Param     any             `json:"param"`
			Details   any             `json:"details"`
			RequestID string          `json:"request_id"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &found) != nil || found.Error == nil {
		return false
	}
	_ = json.Unmarshal(found.Error.Code, &e.Code) // a number is no code of ours
	e.Message = found.Error.Message
	e.Param, _ = found.Error.Param.(string)
	e.Details, _ = found.Error.Details.(map[string]any)
	if e.RequestID == "" {
		e.RequestID = found.Error.RequestID
	}
	if e.Message == "" {
		e.Message = "The API answered with an error that has no message."
	}
	return true
}

// redact takes the key out of what a server may have echoed.
func (c *core) redact(text []byte) []byte {
	if key := c.key(); len(key) >= 8 {
		return bytes.ReplaceAll(text, []byte(key), []byte("***"))
	}
	return text
}

// excerpt is the beginning of a text that is not ours, on one line; nothing of a page of HTML.
func excerpt(body []byte) string {
	text := strings.TrimSpace(string(body))
	if strings.HasPrefix(text, "<") {
		return ""
	}
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "")
	if runes := []rune(text); len(runes) > 200 {
		text = string(runes[:200]) + "…"
	}
	return text
}
