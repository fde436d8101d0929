// Package settings reads the plugin configuration.
package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	defaultAuthority = "tour.example"
	defaultGreeting  = "hello"
	defaultPeriod    = 100
	// maxPeriod is the longest time between two ticks, in milliseconds.
	maxPeriod = 60_000
)

// Settings is what the plugin was told.
type Settings struct {
	// Cluster is the name of the cluster that is asked.
	Cluster string
	// Authority is the `:authority` of what it is asked.
	Authority string
	// Greeting is the value of the response header `x-tour-greeting`.
	Greeting string
	// Period is the time between two ticks, in milliseconds.
	Period uint32
}

var errNoObject = errors.New("it is not a JSON object of texts and whole numbers")

// Parse reads the configuration. The error is the reason why the plugin cannot run with it.
func Parse(configuration string) (Settings, error) {
	values, err := parseObject(configuration)
	if err != nil {
		return Settings{}, err
	}
	var settings Settings
	if settings.Cluster, err = takeText(values, "cluster", ""); err != nil {
		return Settings{}, err
	}
	if settings.Cluster == "" {
		return Settings{}, errors.New("`cluster` names no cluster")
	}
	if settings.Authority, err = takeText(values, "authority", defaultAuthority); err != nil {
		return Settings{}, err
	}
	if settings.Greeting, err = takeText(values, "greeting", defaultGreeting); err != nil {
		return Settings{}, err
	}
	if settings.Period, err = takePeriod(values); err != nil {
		return Settings{}, err
	}
	// Only fields that are not known are left.
	if names := slices.Sorted(maps.Keys(values)); len(names) > 0 {
		return Settings{}, fmt.Errorf("`%s` is no field", Printable(names[0]))
	}
	return settings, nil
}

// parseObject returns the fields, each a string or a uint64.
func parseObject(configuration string) (map[string]any, error) {
	var fields map[string]json.RawMessage
	err := json.Unmarshal([]byte(configuration), &fields)
	if err != nil || fields == nil || !utf8.ValidString(configuration) {
		return nil, errNoObject
	}
	values := make(map[string]any, len(fields))
	for name, field := range fields {
		if field[0] == '"' {
			var text string
			if err := json.Unmarshal(field, &text); err != nil {
				return nil, errNoObject
			}
			values[name] = text
			continue
		}
		number, err := strconv.ParseUint(string(field), 10, 64)
		if err != nil {
			return nil, errNoObject
		}
		values[name] = number
	}
	return values, nil
}

// takeText takes a text, which must be fit for a header.
func takeText(values map[string]any, name, fallback string) (string, error) {
	value, ok := values[name]
	delete(values, name)
	if !ok {
		return fallback, nil
	}
	text, ok := value.(string)
	if !ok {
		return "", fmt.Errorf("`%s` is not a text", name)
	}
	if !IsPlain(text) {
		return "", fmt.Errorf("`%s` is not plain ASCII", name)
	}
	return text, nil
}

func takePeriod(values map[string]any) (uint32, error) {
	value, ok := values["period"]
	delete(values, "period")
	if !ok {
		return defaultPeriod, nil
	}
	number, ok := value.(uint64)
	if !ok {
		return 0, errors.New("`period` is not a whole number")
	}
	if number < 1 || number > maxPeriod {
		return 0, fmt.Errorf("`period` is not from 1 to %d", maxPeriod)
	}
	return uint32(number), nil
}

// IsPlain tells whether a text is visible ASCII and spaces, which any header and any log line can
// hold.
func IsPlain(text string) bool { return Printable(text) == text }

// Printable makes a text fit for one line of a log.
func Printable(text string) string {
	var printable strings.Builder
	for i := range len(text) {
		if b := text[i]; ' ' <= b && b <= '~' {
			printable.WriteByte(b)
		} else {
			printable.WriteByte('?')
		}
	}
	return printable.String()
}
