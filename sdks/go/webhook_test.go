package helixflow

import (
	"encoding/base64"
	"errors"
	"net/http"
	"testing"
	"time"
)

func TestContractSignatures(t *testing.T) {
	type entry struct {
		Name       string
		Payload    string
		Encoded    string `json:"payload_base64"`
		Headers    map[string]string
		Secrets    []string
		Now        int64
		ToleranceS float64 `json:"tolerance_s"`
		Valid      bool
		Reason     string
		Event      object
		Helper     bool
		Signature  string
		Secret     string
	}
	var entries []entry
	readJSON(t, "../contract/signatures.json", &entries)
	for _, entry := range entries {
		t.Run(entry.Name, func(t *testing.T) {
			payload := []byte(entry.Payload)
			if entry.Encoded != "" {
				payload, _ = base64.StdEncoding.DecodeString(entry.Encoded)
			}
			if entry.Helper {
				same(t, "valid", VerifyWebhookSignature(payload, entry.Signature, entry.Secret), entry.Valid)
				return
			}
			header := http.Header{}
			for name, value := range entry.Headers {
				header.Set(name, value)
			}
			verifier := WebhookVerifier{entry.Secrets, seconds(entry.ToleranceS), func() time.Time { return time.Unix(entry.Now, 0) }}
			event, err := verifier.Verify(payload, header)
			var refused *WebhookVerificationError
			switch {
			case entry.Valid && err != nil:
				t.Error(err)
			case entry.Valid:
				got := plain(event).(object)
				got["id"] = nil
				if event.ID != "" {
					got["id"] = event.ID
				}
				for name, value := range entry.Event {
					same(t, name, got[name], value)
				}
			case !errors.As(err, &refused):
				t.Errorf("not refused: %v", err)
			default:
				same(t, "reason", refused.Reason, entry.Reason)
			}
		})
	}
}
