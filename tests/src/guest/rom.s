# The bare guest: a 64 KiB ROM for QEMU's -bios. It makes a known number of exits and does nothing else.
#
# The CPU starts in real mode at the last 16 bytes and switches to long mode. It sets up only what the
# parameters require, and repeats one round as often as they say. It stays in ring 0, keeps interrupts
# off except inside the HLT block, and calls no firmware.
#
# rom.rs assembles this file into the test library's read-only data. Every address is a distance from
# `vmexit_bare_guest_rom`, so there are no relocations. rom.rs fills in the words in braces.

# Addresses in the guest.
    .equ    ROM, 0xf0000                # the chipset shows the ROM here, below 1 MiB
    .equ    PML4, 0x1000                # RAM: page tables, one page each
    .equ    PDPT, 0x2000
    .equ    PD_LOW, 0x3000              # 0 to 1 GiB
    .equ    PD_HIGH, 0x4000             # 3 to 4 GiB
    .equ    STACK, 0x8000
    .equ    BUFFER, 0x10000             # of string I/O, at a page boundary

# Offsets of the parameters, u32 each, in the first 256 bytes of the ROM.
    .equ    ROUNDS, {rounds}
    .equ    PM_TIMER_IN, {pm_timer_in}
    .equ    RTC_OUT, {rtc_out}
    .equ    RTC_IN, {rtc_in}
    .equ    RTC_DATA_OUT, {rtc_data_out}
    .equ    CPUID, {cpuid}
    .equ    MSR_READ, {msr_read}
    .equ    HLT, {hlt}
    .equ    HPET_READ, {hpet_read}
    .equ    BAR_READ, {bar_read}
    .equ    PORT_SWEEP, {port_sweep}
    .equ    BOOT_SWEEP, {boot_sweep}
    .equ    STRING_OUT, {string_out}
    .equ    STRING_IN, {string_in}
    .equ    STRING_OUT_PIC, {string_out_pic}
    .equ    CLOCK, {clock}
    .equ    POWER_OFF, {power_off}
    .equ    COMPUTE, {compute}

    .equ    CODE32, 0x08                # selectors; CODE32 is not used, see the GDT
    .equ    DATA, 0x10
    .equ    CODE64, 0x18

    .equ    PAGE, 0x63                  # present, writable; accessed and dirty already set
    .equ    LARGE_PAGE, 0xe3            # the same with 2 MiB
    .equ    MSR_EFER, 0xc0000080
    .equ    TIMER_VECTOR, 0x20

# One block of a round: the code between `times` and `done` runs as often as the parameter says, with the
# remaining count in %esi. A count of 0 skips it.
    .macro  times parameter
    movl    \parameter(%rbp), %esi
    testl   %esi, %esi
    jz      2f
1:
    .endm
    .macro  done
    decl    %esi
    jnz     1b
2:
    .endm

# OUT of a constant to a port, and WRMSR of a constant.
    .macro  out_l port, value
    movl    $\port, %edx
    movl    $\value, %eax
    outl    %eax, %dx
    .endm
    .macro  write_msr msr, value
    movl    $\msr, %ecx
    movl    $\value, %eax
    xorl    %edx, %edx
    wrmsr
    .endm

# One string instruction with as many elements as the parameter says.
    .macro  string parameter, port, instruction:vararg
    movl    \parameter(%rbp), %ecx
    testl   %ecx, %ecx
    jz      2f
    movl    %edi, %r10d                 # rounds left
    movl    $\port, %edx
    movl    $BUFFER, %esi
    movl    $BUFFER, %edi
    cld
    \instruction
    movl    %r10d, %edi
2:
    .endm

# Cycles of the code between `clock` and `clocked`; \smallest keeps the smallest number. RDTSC makes no exit
# under KVM.
    .macro  clock
    rdtsc
    movl    %eax, %r10d
    .endm
    .macro  clocked smallest
    rdtsc
    subl    %r10d, %eax
    cmpl    \smallest, %eax
    cmovbl  %eax, \smallest
    .endm

# Prints a letter and eight hexadecimal digits to the port in %edx.
    .macro  print letter, number
    movb    $\letter, %al
    outb    %al, %dx
    movl    $8, %ecx
1:
    roll    $4, \number
    movl    \number, %eax
    andl    $0xf, %eax
    addb    $'0', %al
    cmpb    $'9', %al
    jbe     2f
    addb    $('a' - '9' - 1), %al
2:
    outb    %al, %dx
    decl    %ecx
    jnz     1b
    .endm

    .pushsection .rodata.vmexit_bare_guest, "a", @progbits
    .balign 16
    .globl  vmexit_bare_guest_rom
    .hidden vmexit_bare_guest_rom
vmexit_bare_guest_rom:

# ---- 0x0000: the parameters, which BareGuest::rom() fills in -------------------------------------
    .org    {code}

# ---- Real mode to long mode ---------------------------------------------------------------------
    .code16
.Lvmexit_real_mode:
    cli
    xorw    %ax, %ax                    # page tables: flat addresses below 64 KiB
    movw    %ax, %ds
    movl    $(PDPT | PAGE), PML4
    movl    $(PD_LOW | PAGE), PDPT
    movl    $(PD_HIGH | PAGE), PDPT + 3 * 8
    movl    $LARGE_PAGE, PD_LOW         # 0 to 2 MiB: RAM and this ROM
    movl    $(0xfea00000 | LARGE_PAGE), PD_HIGH + 0x1f5 * 8     # 2 MiB with the BAR
    movl    $(0xfec00000 | LARGE_PAGE), PD_HIGH + 0x1f6 * 8     # 2 MiB with the HPET
    movw    %cs, %ax
    movw    %ax, %ds
    lgdtl   .Lvmexit_gdt_pointer - vmexit_bare_guest_rom
    movl    $0x20, %eax                 # CR4.PAE
    movl    %eax, %cr4
    movl    $PML4, %eax
    movl    %eax, %cr3
    write_msr MSR_EFER, 0x100           # LME
    movl    $0x80000011, %eax           # CR0: paging, extension type, protection
    movl    %eax, %cr0
    ljmpl   $CODE64, $(ROM + .Lvmexit_long_mode - vmexit_bare_guest_rom)

    .code64
.Lvmexit_long_mode:
    movl    $DATA, %eax
    movl    %eax, %ss
    movl    %eax, %ds
    movl    %eax, %es
    movl    $STACK, %esp
    movl    $ROM, %ebp                  # parameters are addressed from here
    movl    ROUNDS(%rbp), %edi          # rounds left

# ---- Set-up: sweep ------------------------------------------------------------------------------
    times   BOOT_SWEEP
    leal    {sweep_base}(%rsi), %edx
    inb     %dx, %al
    done

# ---- Set-up: PM timer ---------------------------------------------------------------------------
# Sets the port of the timer, as firmware would. The host bridge identifies the chipset: Q35 has its power
# management in function 00:1f.0, the older i440FX in 00:01.3. Both get PMBASE 0x600.
    cmpl    $0, PM_TIMER_IN(%rbp)
    je      .Lvmexit_pm_done
    out_l   0xcf8, 0x80000000           # 00:00.0 register 0: device and vendor
    movl    $0xcfc, %edx
    inl     %dx, %eax
    cmpl    $0x29c08086, %eax
    je      .Lvmexit_q35
    out_l   0xcf8, 0x80000b40           # PIIX4: PMBASE
    out_l   0xcfc, 0x601
    out_l   0xcf8, 0x80000b80           # PMREGMISC: decode PMBASE
    out_l   0xcfc, 0x1
    jmp     .Lvmexit_pm_done
.Lvmexit_q35:
    out_l   0xcf8, 0x8000f840           # ICH9: PMBASE
    out_l   0xcfc, 0x601
    out_l   0xcf8, 0x8000f844           # ACPI_CNTL: decode PMBASE
    out_l   0xcfc, 0x80
.Lvmexit_pm_done:

# ---- Set-up: BAR --------------------------------------------------------------------------------
# Sets the address of BAR 4, which has the registers of the virtio device in slot 5 of the first bus, and
# enables memory decoding.
    cmpl    $0, BAR_READ(%rbp)
    je      .Lvmexit_bar_done
    out_l   0xcf8, 0x80002820           # BAR 4
    out_l   0xcfc, {bar}
    out_l   0xcf8, 0x80002804           # command: memory
    out_l   0xcfc, 0x2
.Lvmexit_bar_done:

# ---- Set-up: RTC --------------------------------------------------------------------------------
# After reset the index is that of the clock. It must be that of an unused byte before data is written.
    cmpl    $0, RTC_DATA_OUT(%rbp)
    je      .Lvmexit_rtc_done
    movb    $0x7f, %al
    outb    %al, $0x70
.Lvmexit_rtc_done:

# ---- Set-up: local APIC -------------------------------------------------------------------------
# LINT0 may be open to the 8259 after reset, whose interrupt would end a HLT before the timer: mask it.
    cmpl    $0, HLT(%rbp)
    je      .Lvmexit_apic_done
    lidt    ROM + .Lvmexit_idt_pointer - vmexit_bare_guest_rom
    write_msr 0x1b, 0xfee00d00          # IA32_APIC_BASE: enabled, x2APIC, boot CPU
    write_msr 0x80f, 0x1ff              # spurious vector, software enable
    write_msr 0x835, 0x10000            # LINT0 masked
    write_msr 0x832, TIMER_VECTOR       # timer: one-shot
    write_msr 0x83e, 0xb                # divide by 1
.Lvmexit_apic_done:

# ---- One round ----------------------------------------------------------------------------------
.Lvmexit_round:
    cmpl    $0, CLOCK(%rbp)
    jne     .Lvmexit_by_clock

    times   PM_TIMER_IN
    movl    $0x608, %edx
    inl     %dx, %eax
    done

    times   CPUID
    xorl    %eax, %eax
    xorl    %ecx, %ecx
    cpuid
    done
    jmp     .Lvmexit_without_clock

# The same two blocks with the clock. The smallest figures of the round are in %r8d and %r9d.
.Lvmexit_by_clock:
    movl    $-1, %r8d
    times   PM_TIMER_IN
    clock
    movl    $0x608, %edx
    inl     %dx, %eax
    clocked %r8d
    done

    movl    $-1, %r9d
    times   CPUID
    clock
    xorl    %eax, %eax
    xorl    %ecx, %ecx
    cpuid
    clocked %r9d
    done
.Lvmexit_without_clock:

    times   RTC_OUT
    movb    $0x7f, %al
    outb    %al, $0x70
    done

    times   RTC_IN
    inb     $0x71, %al
    done

    times   RTC_DATA_OUT
    xorl    %eax, %eax
    outb    %al, $0x71
    done

    times   MSR_READ
    movl    $0x1b, %ecx
    rdmsr
    done

# STI delays interrupts by one instruction, so the CPU reaches HLT before the timer's interrupt, however early
# that comes. The handler continues at .Lvmexit_woken. An emulator can lose that delay when an exit falls
# between the two instructions; the handler then prints a dash.
    times   HLT
    write_msr 0x838, {timer_count}
    sti
.Lvmexit_sleep:
    hlt
    jmp     .Lvmexit_sleep
.Lvmexit_woken:
    done

    times   HPET_READ
    movl    $0xfed000f0, %edx
    movl    (%rdx), %eax
    done

    times   BAR_READ
    movl    ${bar}, %edx
    movl    (%rdx), %eax
    done

    times   PORT_SWEEP                  # each port once: the count is part of its number
    leal    {sweep_base}(%rsi), %edx
    inb     %dx, %al
    done

    times   COMPUTE
    done

    string  STRING_IN, {string_in_port}, rep insb
    string  STRING_OUT, {string_out_port}, rep outsb
    string  STRING_OUT_PIC, {pic_port}, rep outsb

    movl    $0x3f8, %edx                # the dot: this round is complete
    movb    $'.', %al
    outb    %al, %dx

    cmpl    $0, CLOCK(%rbp)
    je      .Lvmexit_printed
    print   'p', %r8d
    print   'c', %r9d
    movb    $'\n', %al
    outb    %al, %dx
.Lvmexit_printed:

    cmpl    $0, ROUNDS(%rbp)
    je      .Lvmexit_round
    decl    %edi
    jnz     .Lvmexit_round

# ---- The end ------------------------------------------------------------------------------------
    cmpl    $0, POWER_OFF(%rbp)
    je      .Lvmexit_halt
    xorl    %eax, %eax
    outb    %al, $0xf4                  # isa-debug-exit: QEMU exits inside this OUT
.Lvmexit_halt:
    cli
    hlt
    jmp     .Lvmexit_halt

# ---- The timer's interrupt ----------------------------------------------------------------------
# The stack is empty at each HLT, so resetting it does the same as an IRET, but leaves interrupts off, as the
# rest of the round needs.
.Lvmexit_timer:
    leaq    .Lvmexit_sleep(%rip), %rax
    cmpq    %rax, (%rsp)
    jne     .Lvmexit_slept
    movl    $0x3f8, %edx                # HLT was not reached: this one makes no exit
    movb    $'-', %al
    outb    %al, %dx
.Lvmexit_slept:
    movl    $STACK, %esp
    write_msr 0x80b, 0                  # end of interrupt
    jmp     .Lvmexit_woken

# ---- Descriptors --------------------------------------------------------------------------------
# Their accessed bits are set. Otherwise the CPU would write to this ROM, which an emulated CPU may retry
# endlessly.
    .balign 16
.Lvmexit_gdt:
    .quad   0
    .quad   0x00cf9b000000ffff          # CODE32, kept so that the selectors are the usual ones
    .quad   0x00cf93000000ffff          # DATA
    .quad   0x00af9b000000ffff          # CODE64
.Lvmexit_gdt_pointer:
    .word   . - .Lvmexit_gdt - 1
    .long   ROM + .Lvmexit_gdt - vmexit_bare_guest_rom

    .balign 16
.Lvmexit_idt:
    .org    .Lvmexit_idt + TIMER_VECTOR * 16
    .word   .Lvmexit_timer - vmexit_bare_guest_rom
    .word   CODE64, 0x8e00, ROM >> 16   # interrupt gate
    .quad   0
.Lvmexit_idt_pointer:
    .word   . - .Lvmexit_idt - 1
    .quad   ROM + .Lvmexit_idt - vmexit_bare_guest_rom

# ---- 0xfff0: the reset vector -------------------------------------------------------------------
    .code16
    .org    {reset}
    ljmpw   $0xf000, $.Lvmexit_real_mode - vmexit_bare_guest_rom
    .org    {size}

    .code64
    .popsection
    .purgem times
    .purgem done
    .purgem out_l
    .purgem write_msr
    .purgem string
    .purgem clock
    .purgem clocked
    .purgem print
