"""Kernels' code for the device, compiled for this machine's processor, where a thread of a block is a fiber.

A fiber hands over to the scheduler (see ``emulator``) wherever the device would do something about other threads: at
barriers, polls of a counter, and at its end. Copies onto the chip are made where they are waited for.
"""

import ctypes
import re

import llvmlite.binding as llvm
import numpy as np
from guarded import Pages, bytes_at
from without_card import compiled

from numbabn.backends.cuda.llvm import CHIP_SYMBOL

SHARED_MEMORY = 232_448
"""Bytes that a block has on chip at most, as on an H200."""

ENDED, AT_BARRIER, POLLS, READY, FULL = range(5)
"""What a thread does."""

COPIES = 256
"""That a thread may have begun and not have waited for: 4 bytes each, 256 threads' are more than the chip holds."""

COPY = np.dtype([("target", "u8"), ("source", "u8"), ("size", "u8")])
THREAD = np.dtype([
    ("context", "u8"), ("copies", "u8"),
    ("number", "i4"), ("block", "i4"), ("blocks", "i4"), ("state", "i4"), ("begun", "i4"), ("askew", "i4"),
])  # fmt: skip
"""What a thread knows, ``%thread`` below: where its ``copies`` are, how many are ``begun``, if any was not aligned."""

RUNTIME = f"""
%copy = type {{ i64, i64, i64 }}
%thread = type {{ ptr, ptr, i32, i32, i32, i32, i32, i32 }}
@numbabn.thread = global ptr null
@numbabn.scheduler = global ptr null
@numbabn.arguments = global ptr null
declare i32 @swapcontext(ptr, ptr)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare float @llvm.sqrt.f32(float)
declare double @llvm.sqrt.f64(double)

define float @__nv_sqrtf(float %x) {{ %y = call float @llvm.sqrt.f32(float %x)  ret float %y }}
define double @__nv_sqrt(double %x) {{ %y = call double @llvm.sqrt.f64(double %x)  ret double %y }}

define ptr @numbabn.field(i32 %k) {{
  %thread = load ptr, ptr @numbabn.thread
  %fields = getelementptr %thread, ptr %thread, i32 0, i32 2
  %field = getelementptr i32, ptr %fields, i32 %k
  ret ptr %field
}}
define i32 @numbabn.value(i32 %k) {{ %p = call ptr @numbabn.field(i32 %k)  %n = load i32, ptr %p  ret i32 %n }}
define i32 @numbabn.read.ptx.sreg.tid.x() {{ %n = call i32 @numbabn.value(i32 0)  ret i32 %n }}
define i32 @numbabn.read.ptx.sreg.ctaid.x() {{ %n = call i32 @numbabn.value(i32 1)  ret i32 %n }}
define i32 @numbabn.read.ptx.sreg.nctaid.x() {{ %n = call i32 @numbabn.value(i32 2)  ret i32 %n }}
define i32 @numbabn.read.ptx.sreg.tid.y() {{ ret i32 0 }}
define i32 @numbabn.read.ptx.sreg.tid.z() {{ ret i32 0 }}
define i32 @numbabn.read.ptx.sreg.ctaid.y() {{ ret i32 0 }}
define i32 @numbabn.read.ptx.sreg.ctaid.z() {{ ret i32 0 }}
define i32 @numbabn.read.ptx.sreg.nctaid.y() {{ ret i32 1 }}
define i32 @numbabn.read.ptx.sreg.nctaid.z() {{ ret i32 1 }}

define void @numbabn.stop(i32 %state) {{
  %at = call ptr @numbabn.field(i32 3)
  store i32 %state, ptr %at
  %thread = load ptr, ptr @numbabn.thread
  %context = load ptr, ptr %thread
  %scheduler = load ptr, ptr @numbabn.scheduler
  %status = call i32 @swapcontext(ptr %context, ptr %scheduler)
  ret void
}}
define void @numbabn.barrier0() {{ call void @numbabn.stop(i32 {AT_BARRIER})  ret void }}
define ptr @numbabn.copies(i32 %k) {{
  %thread = load ptr, ptr @numbabn.thread
  %at = getelementptr %thread, ptr %thread, i32 0, i32 1
  %all = load ptr, ptr %at
  %one = getelementptr %copy, ptr %all, i32 %k
  ret ptr %one
}}
define void @numbabn.copy(i32 %target, i64 %source, i64 %size) {{
  %at = call ptr @numbabn.field(i32 4)
  %begun = load i32, ptr %at
  %full = icmp uge i32 %begun, {COPIES}
  br i1 %full, label %stop, label %begin
stop:
  call void @numbabn.stop(i32 {FULL})
  unreachable
begin:
  %more = add i32 %begun, 1
  store i32 %more, ptr %at
  %wide = zext i32 %target to i64
  %new = insertvalue %copy undef, i64 %wide, 0
  %newer = insertvalue %copy %new, i64 %source, 1
  %newest = insertvalue %copy %newer, i64 %size, 2
  %place = call ptr @numbabn.copies(i32 %begun)
  store %copy %newest, ptr %place
  %both = or i64 %wide, %source
  %over = urem i64 %both, %size
  %off = icmp ne i64 %over, 0
  br i1 %off, label %tell, label %done
tell:
  %askew = call ptr @numbabn.field(i32 5)
  store i32 1, ptr %askew
  br label %done
done:
  ret void
}}
define void @numbabn.wait() {{
  %at = call ptr @numbabn.field(i32 4)
  br label %next
next:
  %left = load i32, ptr %at
  %none = icmp eq i32 %left, 0
  br i1 %none, label %done, label %make
make:
  %k = sub i32 %left, 1
  store i32 %k, ptr %at
  %place = call ptr @numbabn.copies(i32 %k)
  %copy = load %copy, ptr %place
  %to = extractvalue %copy %copy, 0
  %from = extractvalue %copy %copy, 1
  %size = extractvalue %copy %copy, 2
  %target = inttoptr i64 %to to ptr
  %source = inttoptr i64 %from to ptr
  call void @llvm.memcpy.p0.p0.i64(ptr %target, ptr %source, i64 %size, i1 false)
  br label %next
done:
  ret void
}}
define i32 @numbabn.resume(ptr %threads, i32 %count) {{
  %scheduler = load ptr, ptr @numbabn.scheduler
  br label %next
next:
  %k = phi i32 [ 0, %0 ], [ %more, %run ]
  %end = icmp eq i32 %k, %count
  br i1 %end, label %done, label %run
run:
  %place = getelementptr ptr, ptr %threads, i32 %k
  %thread = load ptr, ptr %place
  store ptr %thread, ptr @numbabn.thread
  %context = load ptr, ptr %thread
  %status = call i32 @swapcontext(ptr %scheduler, ptr %context)
  %more = add i32 %k, 1
  %at = call ptr @numbabn.field(i32 3)
  %state = load volatile i32, ptr %at
  %polls = icmp eq i32 %state, {POLLS}
  br i1 %polls, label %done, label %next
done:
  %ran = phi i32 [ %count, %next ], [ %more, %run ]
  ret i32 %ran
}}
define void @numbabn.count(ptr %counter, i32 %most) {{
  %count = load volatile i32, ptr %counter
  %over = icmp uge i32 %count, %most
  %more = add i32 %count, 1
  %new = select i1 %over, i32 0, i32 %more
  store volatile i32 %new, ptr %counter
  ret void
}}
define i32 @numbabn.arrivals(ptr %counter) {{
  call void @numbabn.stop(i32 {POLLS})
  %count = load volatile i32, ptr %counter
  ret i32 %count
}}
"""
"""The device's instructions, on the host."""

DECLARATIONS = """
declare void @numbabn.copy(i32, i64, i64)
declare void @numbabn.wait()
declare void @numbabn.count(ptr, i32)
declare i32 @numbabn.arrivals(ptr)
"""

TRANSLATIONS = [
    (r"target (triple|datalayout) = .*|!nvvm.annotations = .*", ""),
    (r'@"llvm\.nvvm\.([\w.]+)"', r'@"numbabn.\1"'),
    (r'(@"shared[.\d]*") = internal ', r"\1 = "),
    (r'asm sideeffect "cp\.async\.c[ga]\.shared\.global \[\$0\], \[\$1\], (\d+);", "[^"]*"\((.*)\)',
     r"@numbabn.copy(\2, i64 \1)"),
    (r'asm sideeffect "cp\.async\.wait_all;", "[^"]*"', "@numbabn.wait"),
    (r'asm sideeffect "red\.\w+\.gpu\.inc\.u32 \[\$0\], \$1;", "[^"]*"', "@numbabn.count"),
    (r'asm sideeffect "ld\.acquire\.gpu\.u32 \$0, \[\$1\];", "[^"]*"', "@numbabn.arrivals"),
]  # fmt: skip
"""What is written otherwise for the host. An instruction of the device's that is not among these does not compile."""

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()


CHIP = Pages(SHARED_MEMORY, low=True)
"""What the block that runs holds on chip. Its addresses have 32 bits, as there."""

llvm.add_symbol(CHIP_SYMBOL, CHIP.address)


class Code:
    """A kernel's code for the host: the address of its ``entry``, the memory that is ``shared`` besides CHIP, the
    pointers to the scheduler's context and the launch's arguments, 8 bytes each.

    ``resume(addresses, count)`` lets so many threads run, one after the other, each until it waits for others. It stops
    after one that polls, and returns how many have run.
    """

    def __init__(self, kernel, types):
        known = compiled(kernel, types)
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), codemodel="large", jit=True
        )
        text = known.inspect_llvm()
        for device, host in TRANSLATIONS:
            text = re.sub(device, host, text)
        module = llvm.parse_assembly(RUNTIME)
        for part in text.split("; ModuleID")[1:]:
            module.link_in(llvm.parse_assembly(";" + part + DECLARATIONS))
        kinds = [str(argument.type) for argument in module.get_function(known.entry_name).arguments]
        module.link_in(llvm.parse_assembly(_entry(known.entry_name, kinds)))
        module.verify()
        functions = [function for function in module.functions if function.name.startswith(("__nv_", "numbabn."))]
        lacking = [function.name for function in functions if function.is_declaration]
        assert not lacking, f"{lacking} of the device are not known here"
        builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
        builder.getModulePassManager().run(module, builder)
        self.engine = llvm.create_mcjit_compiler(module, machine)
        self.engine.finalize_object()
        self.name, self.entry = kernel.__name__, self.engine.get_function_address("numbabn.entry")
        self.scheduler, self.arguments = (
            ctypes.c_void_p.from_address(self._address(f"numbabn.{name}")) for name in ("scheduler", "arguments")
        )
        # Python's lock is kept: to Python, all fibers are one thread
        self.resume = ctypes.PYFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32)(
            self.engine.get_function_address("numbabn.resume")
        )
        variables = re.findall(r'@"(shared[.\d]*)" = addrspace\(3\) global \[(\d+) x (float|double)\]', text)
        sizes = {"float": 4, "double": 8}
        self.shared = [bytes_at(self._address(name), int(count) * sizes[of]) for name, count, of in variables]

    def _address(self, name):
        return self.engine.get_global_value_address(name)


def _entry(kernel, kinds):
    """A function without arguments that calls a kernel with those of the launch."""
    loads = "".join(
        f"  %p{k} = getelementptr i64, ptr %all, i32 {k}\n  %a{k} = load {kind}, ptr %p{k}\n"
        for k, kind in enumerate(kinds)
    )
    return f"""
@numbabn.arguments = external global ptr
declare void @"{kernel}"({", ".join(kinds)})
declare void @numbabn.stop(i32)
define void @numbabn.entry() {{
  %all = load ptr, ptr @numbabn.arguments
{loads}  call void @"{kernel}"({", ".join(f"{kind} %a{k}" for k, kind in enumerate(kinds))})
  call void @numbabn.stop(i32 {ENDED})
  ret void
}}
"""
