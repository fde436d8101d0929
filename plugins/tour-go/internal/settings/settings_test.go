package settings

import "testing"

func TestAllButTheClusterHasADefault(t *testing.T) {
	want := Settings{Cluster: "auth", Authority: "tour.example", Greeting: "hello", Period: 100}
	if got, err := Parse(`{"cluster":"auth"}`); err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestEverythingCanBeGiven(t *testing.T) {
	want := Settings{Cluster: "a|b", Authority: "c", Greeting: `hi "you"`, Period: 7}
	const text = ` {"period": 7, "greeting": "\u0068i \"you\"", "cluster": "a|b", "authority": "c"} `
	if got, err := Parse(text); err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestAConfigurationThatMakesNoSenseIsRefusedWithTheReason(t *testing.T) {
	const noObject = "it is not a JSON object of texts and whole numbers"
	for configuration, reason := range map[string]string{
		"":                                       noObject,
		"null":                                   noObject,
		"[]":                                     noObject,
		`{"cluster":"a"`:                         noObject,
		`{"cluster":["a"]}`:                      noObject,
		`{"cluster":"a","period":1.5}`:           noObject,
		"{}":                                     "`cluster` names no cluster",
		`{"cluster":""}`:                         "`cluster` names no cluster",
		`{"cluster":1}`:                          "`cluster` is not a text",
		`{"cluster":"a","greeting":"a\nb"}`:      "`greeting` is not plain ASCII",
		`{"cluster":"a","period":"1"}`:           "`period` is not a whole number",
		`{"cluster":"a","period":0}`:             "`period` is not from 1 to 60000",
		`{"cluster":"a","period":60001}`:         "`period` is not from 1 to 60000",
		`{"cluster":"a","z":1,"clutser":"b"}`:    "`clutser` is no field",
		"{\"cluster\":\"a\",\"a\\u0000b\":\"\"}": "`a?b` is no field",
	} {
		if _, err := Parse(configuration); err == nil || err.Error() != reason {
			t.Errorf("%s: got %v, want %s", configuration, err, reason)
		}
	}
}

func TestBytesThatALogLineCannotHoldAreReplaced(t *testing.T) {
	if got := Printable("a\n\xff~ é"); got != "a??~ ??" {
		t.Errorf("got %q", got)
	}
}
