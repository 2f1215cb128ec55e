package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func newVersion() *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:   "version",
		Short: "Show which weft this is",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v := struct {
				Version  string `json:"version"`
				Commit   string `json:"commit"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{version, commit, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return q.show(c, v, func(t *table) {
				fmt.Fprintf(t.w, "weft %s (commit %s, %s, %s)\n", v.Version, v.Commit, v.Go, v.Platform)
			})
		},
	}
	c.Flags().BoolVar(&q.json, "json", false, "print JSON")
	return c
}
