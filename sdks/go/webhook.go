package helixflow

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// WebhookEvent is what a webhook tells. ID is the same on every attempt to tell it; it is empty if only the
// reference's header was there.
type WebhookEvent struct {
	ID        string          `json:"-"`
	Event     string          `json:"event"` // completion.created, completion.failed, rate_limit.exceeded, quota.low, batch.completed
	Timestamp string          `json:"timestamp"`
	Data      json.RawMessage `json:"data"`
}

// WebhookVerificationError is a webhook not to be believed. Reason is no_signature, bad_timestamp, too_old, too_new,
// mismatch, bad_secret or bad_payload.
type WebhookVerificationError struct{ Reason string }

func (e *WebhookVerificationError) Error() string {
	return "helixflow: webhook refused: " + strings.ReplaceAll(e.Reason, "_", " ")
}

// WebhookVerifier checks webhooks. Several secrets let one be rotated.
type WebhookVerifier struct {
	Secrets   []string
	Tolerance time.Duration    // between the signed time and now; 5 minutes if 0
	Now       func() time.Time // time.Now if nil
}

const defaultTolerance = 5 * time.Minute

// VerifyWebhook checks a webhook with these secrets, and reads it. payload is the body as it came.
func VerifyWebhook(payload []byte, header http.Header, secrets ...string) (*WebhookEvent, error) {
	return WebhookVerifier{Secrets: secrets}.Verify(payload, header)
}

// VerifyWebhookSignature compares X-HelixFlow-Signature as the API reference prints it, and says nothing of replays.
func VerifyWebhookSignature(payload []byte, signature, secret string) bool {
	expected := hex.EncodeToString(digest([]byte(secret), payload))
	return hmac.Equal([]byte(expected), []byte(signature))
}

// Verify checks the signature of Standard Webhooks if there is any of its headers, within the tolerance, else that of
// the API reference, which has no time.
func (v WebhookVerifier) Verify(payload []byte, header http.Header) (*WebhookEvent, error) {
	id, timestamp, signatures := header.Get("Webhook-Id"), header.Get("Webhook-Timestamp"), header.Get("Webhook-Signature")
	reason := v.unusable()
	if reason != "" {
		return nil, &WebhookVerificationError{reason}
	}
	if id != "" || timestamp != "" || signatures != "" {
		reason = v.standard(payload, id, timestamp, signatures)
	} else {
		reason = v.reference(payload, header)
	}
	if reason != "" {
		return nil, &WebhookVerificationError{reason}
	}
	event := &WebhookEvent{ID: id}
	if !utf8.Valid(payload) || json.Unmarshal(payload, event) != nil || event.Event == "" {
		return nil, &WebhookVerificationError{"bad_payload"}
	}
	return event, nil
}

// unusable is why the secrets can't be right: an empty one, of a variable that isn't set, is known to everybody.
func (v WebhookVerifier) unusable() string {
	for _, secret := range v.Secrets {
		if secret == "" {
			return "bad_secret"
		}
	}
	if len(v.Secrets) == 0 {
		return "bad_secret"
	}
	return ""
}

// standard is why the headers of Standard Webhooks don't fit; empty if they do.
func (v WebhookVerifier) standard(payload []byte, id, timestamp, signatures string) string {
	if id == "" || timestamp == "" || signatures == "" {
		return "no_signature"
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return "bad_timestamp"
	}
	if reason := v.outside(time.Unix(seconds, 0)); reason != "" {
		return reason
	}
	signed := append([]byte(id+"."+timestamp+"."), payload...)
	reason := "bad_secret"
	for _, secret := range v.Secrets {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		if err != nil || len(key) == 0 {
			continue
		}
		reason = "mismatch"
		expected := []byte("v1," + base64.StdEncoding.EncodeToString(digest(key, signed)))
		for _, signature := range strings.Fields(signatures) {
			if hmac.Equal(expected, []byte(signature)) {
				return ""
			}
		}
	}
	return reason
}

func (v WebhookVerifier) outside(signed time.Time) string {
	now, tolerance := time.Now(), v.Tolerance
	if v.Now != nil {
		now = v.Now()
	}
	if tolerance == 0 {
		tolerance = defaultTolerance
	}
	switch {
	case signed.Before(now.Add(-tolerance)):
		return "too_old"
	case signed.After(now.Add(tolerance)):
		return "too_new"
	}
	return ""
}

// reference is why neither header of the API reference fits. The second is there while a secret is being rotated.
func (v WebhookVerifier) reference(payload []byte, header http.Header) string {
	reason := "no_signature"
	for _, name := range []string{"X-Helixflow-Signature", "X-Helixflow-Signature-Next"} {
		for _, signature := range header.Values(name) {
			reason = "mismatch"
			for _, secret := range v.Secrets {
				if VerifyWebhookSignature(payload, signature, secret) {
					return ""
				}
			}
		}
	}
	return reason
}

func digest(key, text []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(text)
	return mac.Sum(nil)
}
