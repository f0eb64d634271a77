package lab

// DiskSays is what a [SpeakingDisk] writes to the serial port.
const DiskSays = "booted from disk"

// SpeakingDisk returns a disk whose boot sector writes [DiskSays] to the serial port.
// Interrupts are off: SeaBIOS sends what programs have said by one, and would do so
// in the middle of it.
//
//	fa        cli
//	fc        cld
//	31 c0     xor ax, ax
//	8e d8     mov ds, ax
//	be 23 7c  mov si, text
//	ac        next: lodsb
//	84 c0     test al, al
//	74 12     jz end
//	88 c4     mov ah, al
//	ba fd 03  mov dx, 0x3fd
//	ec        wait: in al, dx
//	a8 20     test al, 0x20       ; room for a character
//	74 fb     jz wait
//	ba f8 03  mov dx, 0x3f8
//	88 e0     mov al, ah
//	ee        out dx, al
//	eb e9     jmp next
//	f4 eb fd  end: hlt; jmp end
func SpeakingDisk() []byte {
	b := make([]byte, 16<<20)
	n := copy(b, []byte{
		0xfa, 0xfc, 0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x23, 0x7c,
		0xac, 0x84, 0xc0, 0x74, 0x12, 0x88, 0xc4,
		0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb,
		0xba, 0xf8, 0x03, 0x88, 0xe0, 0xee, 0xeb, 0xe9, 0xf4, 0xeb, 0xfd,
	})
	copy(b[n:], DiskSays)
	b[510], b[511] = 0x55, 0xaa
	return b
}
