package fleet

import "testing"

func TestOfAQuirkCountsTheFirstThatSaysSo(t *testing.T) {
	tests := map[string]struct{ one, other, want Quirk }{
		"they say different things": {
			Quirk{Vendor: "HPE", HTTP: HTTPAlways, Reason: "its PXE is slow"},
			Quirk{MACPrefix: "52:54:00", BlockSize: 1024, NoAutoexec: true, Reason: "its wire is thin"},
			Quirk{Vendor: "HPE", HTTP: HTTPAlways, BlockSize: 1024, NoAutoexec: true, Reason: "its PXE is slow; its wire is thin"},
		},
		"they say the same thing":     {Quirk{Loader: "a.efi", Reason: "a"}, Quirk{Loader: "b.efi", Reason: "b"}, Quirk{Loader: "a.efi", Reason: "a"}},
		"the first one says nothing":  {Quirk{}, Quirk{Vendor: "HPE", Rechain: true, Reason: "b"}, Quirk{Rechain: true, Reason: "b"}},
		"the other one does not":      {Quirk{HTTP: HTTPNever}, Quirk{Vendor: "HPE", Reason: "b"}, Quirk{HTTP: HTTPNever}},
		"the other one has no reason": {Quirk{HTTP: HTTPNever, Reason: "a"}, Quirk{BlockSize: 512}, Quirk{HTTP: HTTPNever, BlockSize: 512, Reason: "a"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.one.Or(tt.other); got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}
