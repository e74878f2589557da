#!/bin/sh
# usage: check-isa.sh FILE.so
# Disassembles the file and fails on any instruction that a 65 nm Core 2 does not have. Functions whose name ends in
# _sse41 may also use SSE4.1. Vector instructions are checked against a list of what is allowed, not of what is not.
set -eu
if [ ! -r "${1:-}" ]; then
  echo "usage: check-isa.sh FILE.so" >&2
  exit 2
fi
objdump -d --no-show-raw-insn "$1" | awk '
BEGIN {
  # SSE, SSE2, SSE3, SSSE3
  n = split("movaps movups movapd movupd movss movsd movlps movhps movlpd movhpd movlhps movhlps movmskps movmskpd " \
    "movdqa movdqu movq movd movntps movntdq movddup movsldup movshdup lddqu " \
    "addps addss addpd addsd subps subss subpd subsd mulps mulss mulpd mulsd divps divss divpd divsd sqrtps sqrtss sqrtsd " \
    "maxps maxss maxpd maxsd minps minss minpd minsd rcpps rcpss rsqrtps rsqrtss haddps haddpd hsubps addsubps " \
    "andps andpd andnps andnpd orps orpd xorps xorpd pand pandn por pxor " \
    "cmpeqps cmpltps cmpleps cmpunordps cmpneqps cmpnltps cmpnleps cmpordps cmpeqss cmpltss cmpless cmpneqss cmpnltss cmpnless " \
    "cmpeqpd cmpltpd cmplepd cmpeqsd cmpltsd cmplesd cmpneqsd cmpnltsd cmpnlesd cmpunordss cmpunordsd comiss comisd ucomiss ucomisd " \
    "shufps shufpd unpcklps unpckhps unpcklpd unpckhpd pshufd pshuflw pshufhw " \
    "punpcklbw punpcklwd punpckldq punpcklqdq punpckhbw punpckhwd punpckhdq punpckhqdq " \
    "packsswb packssdw packuswb pinsrw pextrw pmovmskb " \
    "paddb paddw paddd paddq psubb psubw psubd psubq paddsb paddsw paddusb paddusw psubsb psubsw psubusb psubusw " \
    "pmullw pmulhw pmulhuw pmuludq pmaddwd psadbw pavgb pavgw pmaxsw pmaxub pminsw pminub " \
    "pcmpeqb pcmpeqw pcmpeqd pcmpgtb pcmpgtw pcmpgtd psllw pslld psllq pslldq psrlw psrld psrlq psrldq psraw psrad " \
    "cvtps2dq cvttps2dq cvtdq2ps cvtdq2pd cvtps2pd cvtpd2ps cvtss2sd cvtsd2ss cvtsi2ss cvtsi2sd cvtsi2ssl cvtsi2sdl cvtsi2ssq cvtsi2sdq cvtss2si cvtsd2si cvttss2si cvttsd2si " \
    "pshufb pmaddubsw phaddw phaddd phaddsw psignb psignw psignd pabsb pabsw pabsd palignr pmulhrsw", list, " ")
  for (i = 1; i <= n; i++) ok[list[i]] = 1
  n = split("pblendvb pblendw blendps blendvps blendpd pmovsxbw pmovsxbd pmovsxwd pmovzxbw pmovzxbd pmovzxwd pmulld pmuldq " \
    "pminsb pmaxsb pminuw pmaxuw pminsd pmaxsd pminud pmaxud packusdw pcmpeqq ptest roundps roundss dpps insertps extractps " \
    "pinsrb pinsrd pinsrq pextrb pextrd pextrq mpsadbw phminposuw movntdqa", list, " ")
  for (i = 1; i <= n; i++) sse41[list[i]] = 1
  n = split("popcnt lzcnt tzcnt andn bextr blsi blsmsk blsr bzhi mulx pdep pext rorx sarx shlx shrx adcx adox movbe crc32 " \
    "crc32b crc32l crc32q rdrand rdseed xgetbv xsave", list, " ")
  for (i = 1; i <= n; i++) scalar_no[list[i]] = 1
}
/^[0-9a-f]+ <.*>:$/ { f = $2; gsub(/[<>:]/, "", f); functions++; next }
/^ *[0-9a-f]+:/ {
  m = $2
  while (m == "rep" || m == "repz" || m == "repnz" || m == "lock" || m == "notrack" || m == "data16" || m == "bnd" || m == "cs" || m == "ds") { $2 = ""; $0 = $0; m = $2 }
  total++
  vector = /%[xyz]mm/
  if (m in scalar_no || /%[yz]mm|%k[0-7]/ || (vector && !(m in ok) && !(m in sse41 && f ~ /_sse41/))) {
    print "not for a Core 2: " f ": " $0
    bad++
  }
}
END {
  if (total < 1000) { print "only " total " instructions found: objdump failed?"; exit 1 }
  print total " instructions in " functions " functions, " bad + 0 " not allowed"
  exit bad > 0
}'
