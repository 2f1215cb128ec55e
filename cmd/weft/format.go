package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
)

// format is the flag --format: a Go template, over the fields' Go names as Docker's are.
type format struct{ text string }

func (f *format) flag(c *cobra.Command) {
	c.Flags().StringVar(&f.text, "format", "", "print each by this Go `template`, such as '{{.Name}} {{json .}}', or json; with \"table \" before it in columns")
	complete(c, "format", words("json", "{{json .}}"))
}

// print writes one line for each element of all. What it cannot do is an error, and then nothing is written.
func print[T any](c *cobra.Command, f format, all []T) error {
	text := strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(f.text)
	text, columns := strings.CutPrefix(text, "table ")
	switch text {
	case "table":
		return usageError{errors.New(`--format table; expected a template after it, such as "table {{.Name}}": without --format there is a table`)}
	case "json":
		text = "{{json .}}"
	}
	t, err := template.New("--format").Funcs(template.FuncMap{"json": inJSON, "join": join, "lower": strings.ToLower, "upper": strings.ToUpper}).Parse(text)
	if err != nil {
		return usageError{fmt.Errorf("--format: %w", err)}
	}
	var out bytes.Buffer
	if columns {
		out.WriteString(heading(text) + "\n")
	}
	for _, v := range all {
		if err := t.Execute(&out, v); err != nil {
			return usageError{fmt.Errorf("--format: %w; the fields are %s", err, fields(reflect.TypeFor[T]()))}
		}
		out.WriteByte('\n')
	}
	if columns {
		w := columned(c.OutOrStdout())
		_, _ = out.WriteTo(w) // Flush reports any error
		return w.Flush()
	}
	_, err = out.WriteTo(c.OutOrStdout())
	return err
}

var (
	actions = regexp.MustCompile(`\{\{.*?\}\}`)
	field   = regexp.MustCompile(`\.([A-Z]\w*)`)
	humps   = regexp.MustCompile(`([a-z])([A-Z])`)
)

// heading is a template with the name of the field in the place of each action, as Docker's tables have it.
func heading(text string) string {
	return actions.ReplaceAllStringFunc(text, func(action string) string {
		name := field.FindStringSubmatch(action)
		if name == nil {
			return ""
		}
		return strings.ToUpper(humps.ReplaceAllString(name[1], "$1 $2"))
	})
}

func inJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// join prints the elements of any list.
func join(list any, separator string) (string, error) {
	v := reflect.ValueOf(list)
	if v.Kind() != reflect.Slice {
		return "", fmt.Errorf("join of a %T; expected a list", list)
	}
	parts := make([]string, v.Len())
	for i := range parts {
		parts[i] = fmt.Sprint(v.Index(i).Interface())
	}
	return strings.Join(parts, separator), nil
}

// fields lists the names of a struct's fields.
func fields(t reflect.Type) string {
	list := make([]string, t.NumField())
	for i := range list {
		list[i] = "." + t.Field(i).Name
	}
	return strings.Join(list, " ")
}

// inspect prints what get finds for each of refs, as one JSON array or by a template. What could not be found is told after
// what could, and an error.
func inspect[T any](c *cobra.Command, f format, refs []string, get func(ref string) ([]T, error)) error {
	found := []T{}
	var errs []error
	for _, ref := range refs {
		v, err := get(ref)
		found = append(found, v...)
		errs = append(errs, err)
	}
	if f.text != "" {
		if len(found) > 0 {
			errs = append(errs, print(c, f, found))
		}
		return lines(errs...)
	}
	e := json.NewEncoder(c.OutOrStdout())
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return lines(append(errs, e.Encode(found))...)
}

// one makes a list of one, for what gets a single thing.
func one[T any](v T, err error) ([]T, error) {
	if err != nil {
		return nil, err
	}
	return []T{v}, nil
}

// eachName does something for each of refs, and prints those for which it went well.
func eachName(c *cobra.Command, refs []string, do func(ref string) error) error {
	var errs []error
	for _, ref := range refs {
		err := do(ref)
		if err == nil {
			fmt.Fprintln(c.OutOrStdout(), ref)
		}
		errs = append(errs, err)
	}
	return lines(errs...)
}

// lines joins errors, each on a line that begins as the first one's will.
func lines(errs ...error) error {
	var all error
	for _, err := range errs {
		switch {
		case all == nil:
			all = err
		case err != nil:
			all = fmt.Errorf("%w\nweft: %w", all, err)
		}
	}
	return all
}
