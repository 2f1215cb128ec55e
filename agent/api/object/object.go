// Package object reads a JSON object (RFC 8259) from a client as strictly as the client deserves to be told of its mistakes:
// package encoding/json by itself would neither name the field that holds a faulty address nor say what was expected there,
// and would take fields in any mixture of capitals.
//
//	{"networks": [{"addresses": ["10.0.1.300"]}]}
//	               └ field "networks[0].addresses[0]" is "10.0.1.300"; expected an address such as "10.0.1.9"
package object

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/weftnet/weft/stack/frame"
)

// Decode reads one object into the struct that into points to.
func Decode(b []byte, into any) error {
	if len(b) == 0 {
		return errors.New("the body is empty; expected a JSON object")
	}
	var raw json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return fmt.Errorf("the body is no JSON: %w", err)
	}
	return fill(reflect.ValueOf(into).Elem(), raw, "")
}

// fill reads raw into v, whose place in the request is path. A null is a field left out.
func fill(v reflect.Value, raw json.RawMessage, path string) error {
	t := v.Type()
	if string(raw) == "null" && path != "" {
		return nil
	}
	if _, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return leaf(v, raw, path)
	}
	switch {
	case t.Kind() == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		return fill(v.Elem(), raw, path)
	case t.Kind() == reflect.Struct:
		return fillStruct(v, raw, path)
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		var parts []json.RawMessage
		if json.Unmarshal(raw, &parts) != nil {
			return fault(t, raw, path)
		}
		v.Set(reflect.MakeSlice(t, len(parts), len(parts)))
		for i, part := range parts {
			if err := fill(v.Index(i), part, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		return nil
	case t.Kind() == reflect.Map:
		return fillMap(v, raw, path)
	}
	return leaf(v, raw, path)
}

func fillStruct(v reflect.Value, raw json.RawMessage, path string) error {
	var parts map[string]json.RawMessage
	if json.Unmarshal(raw, &parts) != nil || parts == nil {
		return fault(v.Type(), raw, path)
	}
	fields := make(map[string]int)
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		fields[name] = i
	}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		i, ok := fields[name]
		if !ok {
			return fmt.Errorf("unknown field %q; expected %s", join(path, name), strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		}
		if err := fill(v.Field(i), parts[name], join(path, name)); err != nil {
			return err
		}
	}
	return nil
}

func fillMap(v reflect.Value, raw json.RawMessage, path string) error {
	var parts map[string]json.RawMessage
	if json.Unmarshal(raw, &parts) != nil {
		return fault(v.Type(), raw, path)
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		value := reflect.New(v.Type().Elem()).Elem()
		if err := fill(value, parts[name], join(path, name)); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(name), value)
	}
	return nil
}

// leaf reads what has no parts.
func leaf(v reflect.Value, raw json.RawMessage, path string) error {
	if json.Unmarshal(raw, v.Addr().Interface()) != nil {
		return fault(v.Type(), raw, path)
	}
	return nil
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// fault tells that what stands at path is no t.
func fault(t reflect.Type, raw json.RawMessage, path string) error {
	const most = 60 // bytes of a value that help to find it
	got := string(raw)
	if len(got) > most {
		got = strings.ToValidUTF8(got[:most], "") + "..."
	}
	if path == "" {
		return fmt.Errorf("the body is %s; expected a JSON object", got)
	}
	return fmt.Errorf("field %q is %s; expected %s", path, got, expected(t))
}

// expected says what a field of type t takes.
func expected(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[netip.Addr]():
		return `an address such as "10.0.1.9"`
	case reflect.TypeFor[netip.Prefix]():
		return `a subnet such as "10.0.1.0/24"`
	case reflect.TypeFor[frame.MAC]():
		return `an Ethernet address such as "02:42:0a:00:01:09"`
	case reflect.TypeFor[[]byte]():
		return "octets in base64"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	case reflect.Uint32:
		return "a whole number from 0 to 4294967295"
	default:
		return "a whole number"
	}
}
