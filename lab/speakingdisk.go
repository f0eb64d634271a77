package lab

// DiskSays is what a [SpeakingDisk] writes to the serial port.
const DiskSays = "booted from disk"

// SpeakingDisk returns a disk whose boot sector writes [DiskSays] to the serial port.
//
//	fc        cld
//	31 c0     xor ax, ax
//	8e d8     mov ds, ax
//	be 16 7c  mov si, text
//	ba f8 03  mov dx, 0x3f8
//	ac        next: lodsb
//	84 c0     test al, al
//	74 03     jz end
//	ee        out dx, al
//	eb f8     jmp next
//	f4 eb fd  end: hlt; jmp end
func SpeakingDisk() []byte {
	b := make([]byte, 16<<20)
	n := copy(b, []byte{
		0xfc, 0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x16, 0x7c, 0xba, 0xf8, 0x03,
		0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8, 0xf4, 0xeb, 0xfd,
	})
	copy(b[n:], DiskSays)
	b[510], b[511] = 0x55, 0xaa
	return b
}
