module github.com/helixflow/helixflow-go

go 1.19
