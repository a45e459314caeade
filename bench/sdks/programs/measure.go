// `client MODE BASE_URL`: with `import` it makes a client, with `first` it also calls once; with `serve` it reads
// `calls N` and `streams N` from stdin and prints what they took as JSON. caller is made by one of its neighbours.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"time"
)

type caller interface {
	call()
	stream() int
}

func cpu() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func main() {
	mode, client := os.Args[1], newCaller(os.Args[2])
	if mode == "import" {
		return
	}
	if mode == "first" {
		client.call()
		return
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var name string
		var count, done int
		if _, err := fmt.Sscan(lines.Text(), &name, &count); err != nil {
			panic(err)
		}
		wall, spent := time.Now(), cpu()
		for n := 0; n < count; n++ {
			if name == "calls" {
				client.call()
				done++
			} else {
				done += client.stream()
			}
		}
		_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
			"done": done, "wall_s": time.Since(wall).Seconds(), "cpu_s": (cpu() - spent).Seconds(),
		})
	}
}
