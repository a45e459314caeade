package helixflow_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"

	"github.com/helixflow/helixflow-go"
)

func ExampleClient_CreateChatCompletion() {
	client := helixflow.NewClient("your-api-key")
	response, err := client.CreateChatCompletion(context.Background(), helixflow.ChatCompletionRequest{
		Model:    "gpt-3.5-turbo",
		Messages: []helixflow.Message{{Role: "user", Content: "Hello, world!"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(response.Choices[0].Message.Content)
}

func ExampleClient_CreateChatCompletionStream() {
	client := helixflow.NewClient("your-api-key")
	stream, err := client.CreateChatCompletionStream(context.Background(), helixflow.ChatCompletionRequest{
		Model:    "gpt-3.5-turbo",
		Messages: []helixflow.Message{{Role: "user", Content: "Hello, world!"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(chunk.Text())
	}
}

func ExampleVerifyWebhook() {
	payload := []byte(`{"event":"quota.low","timestamp":"2024-01-01T00:00:00Z","data":{"used_percent":80}}`)
	header := http.Header{"X-Helixflow-Signature": {"0ff1ce"}}
	_, err := helixflow.VerifyWebhook(payload, header, "whsec_c2VjcmV0LW9mLXRoZS1lbmRwb2ludC0wMTIzNDU2Nzg=")
	fmt.Println(err)
	// Output: helixflow: webhook refused: mismatch
}
