import js from '@eslint/js';
import globals from 'globals';

const worklet = { sampleRate: 'readonly', AudioWorkletProcessor: 'readonly', registerProcessor: 'readonly' };

export default [
  { ignores: ['build/', 'build-*/', 'node_modules/', 'tests/e2e/out/'] },
  js.configs.recommended,
  {
    rules: {
      eqeqeq: 'error',
      'no-var': 'error',
      'prefer-const': 'error',
      'no-eval': 'error',
      'no-implied-eval': 'error',
      'no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      'max-lines': ['error', 500],
      'max-lines-per-function': ['error', 80],
      // Text of a model or a person must never become markup.
      'no-restricted-properties': [
        'error',
        { property: 'innerHTML', message: 'Build elements with h() of dom.js.' },
        { property: 'outerHTML', message: 'Build elements with h() of dom.js.' },
        { property: 'insertAdjacentHTML', message: 'Build elements with h() of dom.js.' },
        { object: 'document', property: 'write', message: 'Build elements with h() of dom.js.' },
      ],
    },
  },
  { files: ['ui/**/*.js', 'src/web/login/*.js'], languageOptions: { globals: globals.browser } },
  { files: ['ui/*-worklet.js'], languageOptions: { globals: worklet } },
  { files: ['ui/boot.js'], languageOptions: { sourceType: 'script' } },
  // Tests run in Node and hand functions to the page.
  { files: ['**/*.mjs', '*.js', 'tests/**/*.js', 'scripts/**/*.js'], languageOptions: { globals: { ...globals.node, ...globals.browser } } },
];
