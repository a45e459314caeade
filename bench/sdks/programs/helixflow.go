package main

import (
	"context"
	"errors"
	"io"

	"github.com/helixflow/helixflow-go"
)

type ours struct{ client *helixflow.Client }

func newCaller(baseURL string) caller {
	return ours{helixflow.NewClient("bench", helixflow.WithBaseURL(baseURL))}
}

func request() helixflow.ChatCompletionRequest {
	return helixflow.ChatCompletionRequest{
		Model:    "gpt-3.5-turbo",
		Messages: []helixflow.Message{{Role: "user", Content: "Hello, world!"}},
	}
}

func (o ours) call() {
	answer, err := o.client.CreateChatCompletion(context.Background(), request())
	if err != nil || answer.Choices[0].Message.Content == "" {
		panic(err)
	}
}

func (o ours) stream() (seen int) {
	stream, err := o.client.CreateChatCompletionStream(context.Background(), request())
	if err != nil {
		panic(err)
	}
	defer stream.Close()
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return seen
		}
		if err != nil || len(chunk.Choices) != 1 {
			panic(err)
		}
		seen++
	}
}
