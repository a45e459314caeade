package main

import (
	"context"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

type theirs struct{ client openai.Client }

func newCaller(baseURL string) caller {
	return theirs{openai.NewClient(option.WithAPIKey("bench"), option.WithBaseURL(baseURL))}
}

func request() openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:    "gpt-3.5-turbo",
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Hello, world!")},
	}
}

func (t theirs) call() {
	answer, err := t.client.Chat.Completions.New(context.Background(), request())
	if err != nil || answer.Choices[0].Message.Content == "" {
		panic(err)
	}
}

func (t theirs) stream() (seen int) {
	stream := t.client.Chat.Completions.NewStreaming(context.Background(), request())
	defer stream.Close()
	for stream.Next() {
		if len(stream.Current().Choices) != 1 {
			panic("no choice")
		}
		seen++
	}
	if stream.Err() != nil {
		panic(stream.Err())
	}
	return seen
}
